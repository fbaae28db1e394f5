-- How the workers that computed a cancelled job stop. Needs `job`.
-- A job's halting hash has a field for each worker that still has to: whether it has been heard of,
-- 0 or 1, and the calls by which it was given chunks. A worker owes those jobs their stop.

-- Notes what has become of the stops of a job: all have heard, or all have stopped.
local function note_halt(ref, ms)
  local key, halting = P .. 'job:' .. ref, P .. 'halting:' .. ref
  if redis.call('EXISTS', key) == 0 then return end
  local is_heard = true
  for _, text in ipairs(redis.call('HVALS', halting)) do
    is_heard = is_heard and string.sub(text, 1, 1) == '1'
  end
  local before = redis.call('HMGET', key, 'acknowledged', 'stopped')
  local is_stopped = redis.call('EXISTS', halting) == 0
  local stamp = string.format('%d', ms)
  if is_heard and not before[1] then redis.call('HSET', key, 'acknowledged', stamp) end
  if is_stopped and not before[2] then redis.call('HSET', key, 'stopped', stamp) end
  if (is_heard and not before[1]) or (is_stopped and not before[2]) then emit(ref, 'stopping') end
end

-- Notes that a worker has heard that it is to stop.
local function note_heard(ref, uid, ms)
  local halting = P .. 'halting:' .. ref
  local text = redis.call('HGET', halting, uid)
  if text and string.sub(text, 1, 1) == '0' then
    redis.call('HSET', halting, uid, '1' .. string.sub(text, 2))
    note_halt(ref, ms)
  end
end

-- Notes that a worker computes nothing more of a job.
local function note_stopped(ref, uid, ms)
  redis.call('SREM', P .. 'owing:' .. uid, ref)
  if redis.call('HDEL', P .. 'halting:' .. ref, uid) == 1 then note_halt(ref, ms) end
end

-- Notes that a worker is no more, and computes nothing of any job.
local function note_gone(uid, ms)
  for _, ref in ipairs(redis.call('SMEMBERS', P .. 'owing:' .. uid)) do note_stopped(ref, uid, ms) end
end
