#!lua flags=allow-oom
-- Notes that a worker lives, compares what it holds with what it should hold, and notes how far its
-- chunks are. Of one that has left nothing is noted.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 worker uid, 2 its description (opaque), 3 its slots, 4 milliseconds for which it counts as
--          alive, 5 '1' if it is draining,
--          6 msgpack of what it says it holds: {{ref, epoch, first, count, attempt}, …},
--          7 msgpack of the ids of its calls that are without an answer: {id, …},
--          8 msgpack of progress: {{ref, index, fraction}, …}, 9 its name,
--          10 milliseconds for which a lease that it does not list is left alone, as the list may be
--          older than the lease; one that is draining would hand it back anyway,
--          11 msgpack of the refs of jobs that it is stopping: {ref, …}
-- RETURNS  {1 if it is to drain, else 0, {{ref, epoch, first, count, attempt}, …}: of what it says it
--          holds, what is not its own}
local P = KEYS[1]
--!include clock
--!include job
--!include halt
local uid = ARGV[1]
local held_ranges = cmsgpack.unpack(ARGV[6])
if redis.call('EXISTS', P .. 'left:' .. uid) == 1 then return {0, held_ranges} end
local ms = now()
redis.call('ZADD', P .. 'owners', string.format('%d', ms + ARGV[4]), uid)
redis.call('HSET', P .. 'owner:' .. uid, 'info', ARGV[2], 'name', ARGV[9], 'slots', ARGV[3],
  'seen', string.format('%d', ms), 'draining', ARGV[5])

local held = P .. 'held:' .. uid
local mine = {}
for _, member in ipairs(redis.call('SMEMBERS', held)) do mine[member] = true end

local epochs = {}
local function epoch_of(ref)
  epochs[ref] = epochs[ref] or tonumber(redis.call('HGET', P .. 'job:' .. ref, 'epoch') or 0)
  return epochs[ref]
end

local stop, said = {}, {}
for _, range in ipairs(held_ranges) do
  local ref, first, count = range[1], range[3], range[4]
  -- What it computes of an epoch that is over is not what it was given since.
  local is_current = epoch_of(ref) == range[2]
  local lost_first
  for index = first, first + count - 1 do
    local member = ref .. ' ' .. string.format('%d', index)
    if is_current and mine[member] then
      said[member] = true
      if lost_first then
        stop[#stop + 1] = {ref, range[2], lost_first, index - lost_first, range[5]}
        lost_first = nil
      end
    elseif not lost_first then
      lost_first = index
    end
  end
  if lost_first then
    stop[#stop + 1] = {ref, range[2], lost_first, first + count - lost_first, range[5]}
  end
end

-- A job that it owes the stop of is stopped once it lists nothing of it, and no answer that gave it
-- chunks of it can still be on its way.
local function is_any_open(calls, open)
  for id in string.gmatch(calls, '%S+') do
    if open[id] then return true end
  end
  return false
end

local open = {}
for _, id in ipairs(cmsgpack.unpack(ARGV[7])) do open[id] = true end
local calls = P .. 'calls:' .. uid
for _, id in ipairs(redis.call('HKEYS', calls)) do
  if not open[id] then redis.call('HDEL', calls, id) end
end

-- A lease that the worker does not know of: the answer that gave it was lost.
local unsaid, woken = {}, {}
for member in pairs(mine) do
  if not said[member] then
    local ref, index = string.match(member, '^(%S+) (%d+)$')
    unsaid[ref] = unsaid[ref] or {}
    table.insert(unsaid[ref], index)
  end
end
for ref, indices in pairs(unsaid) do
  local leases = get_many(P .. 'leases:' .. ref, indices)
  for i, index in ipairs(indices) do
    local call, leased = string.match(leases[i] or '', '^%S+ (%S+) %d+ (%d+)$')
    if not call then
      redis.call('SREM', held, ref .. ' ' .. index)
    elseif not open[call] and (ARGV[5] == '1' or ms - leased >= tonumber(ARGV[10])) then
      end_lease(ref, index, uid)
      redis.call('ZADD', P .. 'again:' .. ref, index, index)
      woken[ref] = true
    end
  end
end
for ref in pairs(woken) do make_ready(ref) end

local moved = {}
for _, progress in ipairs(cmsgpack.unpack(ARGV[8])) do
  local ref, index = progress[1], string.format('%d', progress[2])
  if mine[ref .. ' ' .. index] and said[ref .. ' ' .. index] then
    redis.call('HSET', P .. 'fractions:' .. ref, index, string.format('%.4f', progress[3]))
    moved[ref] = true
  end
end
for ref in pairs(moved) do emit(ref, 'progressed') end

local owing = redis.call('SMEMBERS', P .. 'owing:' .. uid)
if owing[1] then
  local holds, stopping = {}, {}
  for _, range in ipairs(held_ranges) do holds[range[1]] = true end
  for _, ref in ipairs(cmsgpack.unpack(ARGV[11])) do stopping[ref] = true end
  for _, ref in ipairs(owing) do
    local calls = string.sub(redis.call('HGET', P .. 'halting:' .. ref, uid) or '', 3)
    if stopping[ref] then
      note_heard(ref, uid, ms)
    elseif not holds[ref] and not is_any_open(calls, open) then
      note_stopped(ref, uid, ms)
    end
  end
end
return tell({tonumber(redis.call('HGET', P .. 'owner:' .. uid, 'drain') or 0), stop})
