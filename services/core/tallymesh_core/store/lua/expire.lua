-- Forgets jobs that have been kept long enough after their end: the only way in which a job's keys go.
-- One whose total is still to be posted waits for that.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 most jobs to forget, 2 milliseconds after which one that has to wait is looked at again
-- RETURNS  how many jobs were due
local P = KEYS[1]
--!include clock
--!include job
--!include letter
local ms = now()
local due = redis.call('ZRANGEBYSCORE', P .. 'expiry', '-inf', string.format('%d', ms), 'LIMIT', 0, ARGV[1])
for _, ref in ipairs(due) do
  if redis.call('SISMEMBER', P .. 'outbox', ref) == 1 then
    redis.call('ZADD', P .. 'expiry', string.format('%d', ms + ARGV[2]), ref)
  else
    local tenant, id = string.match(ref, '^([^/]+)/(.+)$')
    for _, index in ipairs(redis.call('HKEYS', P .. 'dead:' .. ref)) do drop_letter(ref, index) end
    local state = redis.call('HGET', P .. 'job:' .. ref, 'state')
    redis.call('ZREM', P .. 'state:' .. tenant .. ':' .. state, id)
    -- A worker that still owes its stop finds that nobody asks for it any more.
    for _, uid in ipairs(redis.call('HKEYS', P .. 'halting:' .. ref)) do
      redis.call('SREM', P .. 'owing:' .. uid, ref)
    end
    redis.call('UNLINK', P .. 'job:' .. ref, P .. 'bits:' .. ref, P .. 'records:' .. ref,
      P .. 'index:' .. ref, P .. 'by:' .. ref, P .. 'parts:' .. ref, P .. 'dead:' .. ref,
      P .. 'replayed:' .. ref, P .. 'replays:' .. ref, P .. 'halting:' .. ref)
    redis.call('ZREM', P .. 'expiry', ref)
  end
end
return #due
