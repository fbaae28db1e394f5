#!lua flags=allow-oom
-- Gives the chunks of workers that have fallen silent to others. After an outage of the store, in
-- which nobody could be heard, everyone is given their time again first.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 milliseconds for which a worker counts as alive, 2 milliseconds since the last run that
--          mean an outage, 3 how often a chunk may lose its worker,
--          4 … uids of workers to give up, silent or not; none to look for silent ones
-- RETURNS  the uids of the workers given up
local P = KEYS[1]
--!include clock
--!include job
--!include letter
--!include halt
local alive, outage, budget = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ms = now()
local gone = {}
if ARGV[4] then
  for i = 4, #ARGV do
    if redis.call('ZSCORE', P .. 'owners', ARGV[i]) then gone[#gone + 1] = ARGV[i] end
  end
else
  local last = tonumber(redis.call('GET', P .. 'tick') or 0)
  redis.call('SET', P .. 'tick', string.format('%d', ms))
  if ms - last > outage then
    local deadline = string.format('%d', ms + alive)
    for _, uid in ipairs(redis.call('ZRANGE', P .. 'owners', 0, -1)) do
      redis.call('ZADD', P .. 'owners', deadline, uid)
    end
    return {}
  end
  gone = redis.call('ZRANGEBYSCORE', P .. 'owners', '-inf', string.format('(%d', ms))
end

for _, uid in ipairs(gone) do
  local woken = {}
  for _, member in ipairs(redis.call('SMEMBERS', P .. 'held:' .. uid)) do
    local ref, index = string.match(member, '^(%S+) (%d+)$')
    local lease = redis.call('HGET', P .. 'leases:' .. ref, index)
    if lease and string.match(lease, '^%S+') == uid then
      end_lease(ref, index, uid)
      local failed, lost, before = tries_of(ref, index)
      set_tries(ref, index, failed, lost + 1, before)
      redis.call('HINCRBY', P .. 'job:' .. ref, 'lost', 1)
      if lost + 1 > budget then
        give_up(ref, index, ms, 'WORKERS_LOST', '',
          string.format('the worker computing the chunk was lost more than %d times', budget))
      else
        redis.call('ZADD', P .. 'again:' .. ref, index, index)
        woken[ref] = true
      end
    end
  end
  for ref in pairs(woken) do
    if redis.call('EXISTS', P .. 'again:' .. ref) == 1 then make_ready(ref) end
  end
  note_gone(uid, ms)
  redis.call('DEL', P .. 'held:' .. uid, P .. 'calls:' .. uid, P .. 'owner:' .. uid)
  redis.call('ZREM', P .. 'owners', uid)
end
return tell(gone)
