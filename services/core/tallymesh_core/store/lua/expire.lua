-- Forgets jobs that have been kept long enough after their end: the only way in which a job's keys go.
-- One whose total is still to be posted waits for that.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 most jobs to forget, 2 milliseconds after which one that has to wait is looked at again,
--          3 most dead letters to forget; a job that has more of them goes with its last
-- RETURNS  1 if there may be more to forget, else 0
local P = KEYS[1]
--!include clock
--!include job
--!include letter
local most, left = tonumber(ARGV[1]), tonumber(ARGV[3])
local ms = now()
local due = redis.call('ZRANGEBYSCORE', P .. 'expiry', '-inf', string.format('%d', ms), 'LIMIT', 0, most)
for _, ref in ipairs(due) do
  local dead = P .. 'dead:' .. ref
  local letters = redis.call('HLEN', dead)
  if redis.call('SISMEMBER', P .. 'outbox', ref) == 1 then
    redis.call('ZADD', P .. 'expiry', string.format('%d', ms + ARGV[2]), ref)
  elseif letters > left then
    local facts, some = redis.call('HSCAN', dead, 0, 'COUNT', math.max(1, left))[2], {}
    for i = 1, #facts, 2 do some[#some + 1] = facts[i] end
    drop_letters(ref, some)
    call_many('HDEL', dead, some)
    return 1
  else
    local tenant, id = string.match(ref, '^([^/]+)/(.+)$')
    left = left - letters
    drop_letters(ref, redis.call('HKEYS', dead))
    local state = redis.call('HGET', P .. 'job:' .. ref, 'state')
    redis.call('ZREM', P .. 'state:' .. tenant .. ':' .. state, id)
    -- A worker that still owes its stop finds that nobody asks for it any more.
    for _, uid in ipairs(redis.call('HKEYS', P .. 'halting:' .. ref)) do
      redis.call('SREM', P .. 'owing:' .. uid, ref)
    end
    redis.call('UNLINK', P .. 'job:' .. ref, P .. 'bits:' .. ref, P .. 'records:' .. ref,
      P .. 'index:' .. ref, P .. 'by:' .. ref, P .. 'parts:' .. ref, P .. 'dead:' .. ref,
      P .. 'replayed:' .. ref, P .. 'replays:' .. ref, P .. 'halting:' .. ref, P .. 'logs:' .. ref)
    redis.call('ZREM', P .. 'expiry', ref)
  end
end
return #due == most and 1 or 0
