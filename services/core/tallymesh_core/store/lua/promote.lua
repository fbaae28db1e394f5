#!lua flags=allow-oom
-- Makes chunks leasable whose time to be tried again has come.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 most jobs to look at
-- RETURNS  milliseconds until the next such time, or -1 when there is none
local P = KEYS[1]
--!include clock
--!include job
local ms = now()
local stamp = string.format('%d', ms)
for _, ref in ipairs(redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', stamp, 'LIMIT', 0, ARGV[1])) do
  local later = P .. 'later:' .. ref
  for _, index in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', stamp)) do
    redis.call('ZREM', later, index)
    redis.call('ZADD', P .. 'again:' .. ref, index, index)
  end
  local soonest = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')[2]
  if soonest then
    redis.call('ZADD', P .. 'delayed', soonest, ref)
  else
    redis.call('ZREM', P .. 'delayed', ref)
  end
  make_ready(ref, true)
end
local next_ = redis.call('ZRANGE', P .. 'delayed', 0, 0, 'WITHSCORES')[2]
return tell(next_ and math.max(0, tonumber(next_) - ms) or -1)
