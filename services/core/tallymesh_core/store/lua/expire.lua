#!lua flags=allow-oom
-- Forgets jobs that have been kept long enough after their end: the only way in which a job's keys go.
-- One whose total is still to be posted waits for that.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 most jobs to look at, 2 most dead letters to forget; a job that has more of them goes with its
--          last
-- RETURNS  1 if there may be more to forget, else 0
local P = KEYS[1]
--!include clock
--!include job
--!include letter
local left, letters_left = tonumber(ARGV[1]), tonumber(ARGV[2])
local ms = now()

-- Forgets a job; answers false where it has too many dead letters to go now.
local function forget(ref, state)
  local dead = P .. 'dead:' .. ref
  local letters = redis.call('HLEN', dead)
  if letters > letters_left then
    local facts, some = redis.call('HSCAN', dead, 0, 'COUNT', math.max(1, letters_left))[2], {}
    for i = 1, #facts, 2 do some[#some + 1] = facts[i] end
    drop_letters(ref, some)
    call_many('HDEL', dead, some)
    return false
  end
  letters_left = letters_left - letters
  drop_letters(ref, redis.call('HKEYS', dead))
  local tenant, id = string.match(ref, '^([^/]+)/(.+)$')
  redis.call('ZREM', P .. 'state:' .. tenant .. ':' .. state, id)
  if redis.call('HEXISTS', P .. 'job:' .. ref, 'labelled') == 1 then move_labels(ref, state, nil) end
  -- A worker that still owes its stop finds that nobody asks for it any more.
  for _, uid in ipairs(redis.call('HKEYS', P .. 'halting:' .. ref)) do
    redis.call('SREM', P .. 'owing:' .. uid, ref)
  end
  redis.call('UNLINK', P .. 'job:' .. ref, P .. 'spec:' .. ref, P .. 'work:' .. ref, P .. 'result:' .. ref,
    P .. 'bits:' .. ref, P .. 'records:' .. ref, P .. 'index:' .. ref, P .. 'by:' .. ref,
    P .. 'parts:' .. ref, P .. 'dead:' .. ref, P .. 'replayed:' .. ref, P .. 'replays:' .. ref,
    P .. 'halting:' .. ref, P .. 'logs:' .. ref,
    P .. 'unlogged:' .. ref)
  return true
end

-- Forgets the jobs of a line that are due, and puts it where the next one is; answers false where it had
-- to stop before that.
local function go_through(ttl)
  local line = P .. 'expiring:' .. ttl
  while left > 0 do
    local place = redis.call('LINDEX', line, 0)
    if not place then
      redis.call('ZREM', P .. 'expiry', ttl)
      return true
    end
    local ref, epoch = string.match(place, '^(%S+) (%d+)$')
    local job = redis.call('HMGET', P .. 'job:' .. ref, 'state', 'epoch', 'ended', 'created', 'end')
    -- One that ended with its one chunk tells only there when that was, as commit.lua packs it.
    local ended = job[3] or job[5] and job[4] + struct.unpack('<I', job[5], 11)
    -- The place of one that was replayed since stands for nothing.
    if job[2] == epoch and ended then
      if ended + ttl > ms then
        redis.call('ZADD', P .. 'expiry', string.format('%d', ended + ttl), ttl)
        return true
      end
      if not forget(ref, job[1]) then return false end
    end
    redis.call('LPOP', line)
    left = left - 1
  end
  return false
end

for _, ttl in ipairs(redis.call('ZRANGEBYSCORE', P .. 'expiry', '-inf', string.format('%d', ms))) do
  if not go_through(ttl) then return 1 end
end
return 0
