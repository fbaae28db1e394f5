#!lua flags=allow-oom
-- Gives a worker chunks: of the job with the least pass first, where a job's pass grows by the slot
-- time that its chunks take, divided by its weight (stride scheduling).
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 worker uid, 2 call id, 3 how many chunks it can take, 4 microseconds of work that a job is
--          given at a time, 5 most ranges to answer, 6 … the lanes that the worker serves, each
--          `queue/kernel`; their queues take turns in this order
-- RETURNS  {{ref, epoch, first, count, attempt}, …}; a repeat of a call gets what the first got
local P = KEYS[1]
--!include clock
--!include job
local uid, call, capacity, quantum = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local most = tonumber(ARGV[5])
local given = {}

-- Adds a chunk to the answer, as part of the range before it where it can be.
local function give(ref, epoch, index, attempt)
  local last = given[#given]
  if last and last[1] == ref and last[5] == attempt and last[3] + last[4] == index then
    last[4] = last[4] + 1
  else
    given[#given + 1] = {ref, epoch, index, 1, attempt}
  end
end

if not redis.call('ZSCORE', P .. 'owners', uid) then return given end
local calls, holds = P .. 'calls:' .. uid, P .. 'held:' .. uid
if redis.call('HEXISTS', calls, call) == 1 then
  local found = {}
  for _, member in ipairs(redis.call('SMEMBERS', holds)) do
    local ref, index = string.match(member, '^(%S+) (%d+)$')
    local lease = redis.call('HGET', P .. 'leases:' .. ref, index)
    local id, attempt = string.match(lease or '', '^%S+ (%S+) (%d+)')
    if id == call then found[#found + 1] = {ref, tonumber(index), tonumber(attempt)} end
  end
  table.sort(found, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  for _, chunk in ipairs(found) do
    give(chunk[1], tonumber(redis.call('HGET', P .. 'job:' .. chunk[1], 'epoch')), chunk[2], chunk[3])
  end
  return given
end

local line, lanes = {}, {}
for i = 6, #ARGV do
  local queue = string.match(ARGV[i], '^[^/]+')
  if not lanes[queue] then
    line[#line + 1] = queue
    lanes[queue] = {}
  end
  table.insert(lanes[queue], ARGV[i])
end

-- The head of each lane: its ref and pass, or nothing. Only what is taken from a lane changes it.
local heads = {}

-- Finds the job of a queue with the least pass: its ref, pass and lane; nil if there is none.
local function first_of(queue)
  local ref, pass, lane
  for _, name in ipairs(lanes[queue]) do
    heads[name] = heads[name] or redis.call('ZRANGE', P .. 'lane:' .. name, 0, 0, 'WITHSCORES')
    local head = heads[name]
    if head[1] and (not pass or tonumber(head[2]) < pass) then
      ref, pass, lane = head[1], tonumber(head[2]), name
    end
  end
  return ref, pass, lane
end

local ms
local virtual, members, started, aside, alive = {}, {}, {}, {}, nil

-- Leases chunks of the job that is first in a lane.
local function take_from(ref, pass, lane)
  ms = ms or now()
  heads[lane] = nil
  local key = P .. 'job:' .. ref
  local job = redis.call('HMGET', key, 'state', 'n', 'next', 'epoch', 'done', 'held', 'priority',
    'queue', 'version', 'started', 'labelled', 'pass')
  local n, next_, epoch, done = tonumber(job[2]), tonumber(job[3]), tonumber(job[4]), tonumber(job[5])
  -- Chunk n merges the others, so it can be leased once all of them are done or given up.
  local dead = next_ > 0 and redis.call('HLEN', P .. 'dead:' .. ref) or 0
  local limit = done + dead == n and n + 1 or n
  local returned = next_ > 0 and redis.call('ZCARD', P .. 'again:' .. ref) or 0
  local leasable = returned + math.max(0, limit - next_)
  if leasable == 0 then
    -- Late results have taken what made it ready.
    redis.call('ZREM', P .. 'lane:' .. lane, ref)
    return
  end

  local held, take = tonumber(job[6] or 0), nil
  local began, priority, queue = tonumber(job[12]), tonumber(job[7]), job[8]
  if done == 0 and job[10] then
    -- Its first chunks still run: for so long that others may come first by now.
    local running = redis.call('HLEN', P .. 'leases:' .. ref)
    local aged = pass_of(began, held, done, running, priority, ms - job[10])
    if aged > pass + 1 then
      redis.call('ZADD', P .. 'lane:' .. lane, string.format('%.3f', aged), ref)
      if first_of(queue) ~= ref then return end
      heads[lane] = nil
    end
  end
  if done > 0 then
    take = math.max(1, math.floor(quantum / math.max(1, held / done)))
  else
    -- Nothing is known of the job yet: everyone alive gets an equal part, and this call no second one.
    alive = alive or math.max(1, redis.call('ZCARD', P .. 'owners'))
    take = math.ceil(n / alive)
  end
  take = math.min(take, capacity, leasable)

  local leases = {}
  local stamp = string.format('%d', ms)
  local function lease(index, attempt)
    local text = string.format('%d', index)
    leases[#leases + 1] = text
    leases[#leases + 1] = uid .. ' ' .. call .. ' ' .. attempt .. ' ' .. stamp
    members[#members + 1] = ref .. ' ' .. text
    give(ref, epoch, index, attempt)
  end
  local function attempt_of(index)
    local failed, lost, before = tries_of(ref, index)
    return failed + lost + before + 1
  end
  local from_returned = math.min(take, returned)
  if from_returned > 0 then
    local popped = redis.call('ZPOPMIN', P .. 'again:' .. ref, from_returned)
    for i = 1, #popped, 2 do
      lease(tonumber(popped[i]), attempt_of(popped[i]))
    end
  end
  for index = next_, next_ + take - from_returned - 1 do
    -- A last step that failed is given out anew once its job is replayed.
    lease(index, index < n and 1 or attempt_of(index))
  end
  call_many('HSET', P .. 'leases:' .. ref, leases)
  next_ = next_ + take - from_returned

  -- What is merely expected does not move the queue on, as it may come to less.
  virtual[queue] = math.max(pass_of(began, held, done, 0, priority),
    virtual[queue] or tonumber(redis.call('HGET', P .. 'vtime', queue) or 0))
  local leased = n == 1 and take or redis.call('HLEN', P .. 'leases:' .. ref)
  pass = pass_of(began, held, done, leased, priority)
  local version = string.format('%d', job[9] + 1)
  redis.call('HSET', key, 'next', string.format('%d', next_), 'version', version,
    'state', 'RUNNING', 'started', job[10] or stamp)
  if take == leasable then
    redis.call('ZREM', P .. 'lane:' .. lane, ref)
  elseif done > 0 then
    redis.call('ZADD', P .. 'lane:' .. lane, string.format('%.3f', pass), ref)
  else
    redis.call('ZREM', P .. 'lane:' .. lane, ref)
    aside[#aside + 1] = {lane, pass, ref}
  end
  if job[1] == 'PENDING' then
    list_id(started, ref)
    if job[11] then move_labels(ref, 'PENDING', 'RUNNING') end
  end
  news[#news + 1] = ref .. ' ' .. version .. ' leased '
  capacity = capacity - take
end

while capacity > 0 and #given < most do
  -- Queues take turns: the passes of one, which may have run for days, say nothing to another.
  local ref, pass, lane
  while line[1] and not ref do
    local queue = table.remove(line, 1)
    ref, pass, lane = first_of(queue)
    if ref then line[#line + 1] = queue end
  end
  if not ref then break end
  take_from(ref, pass, lane)
end
for _, job in ipairs(aside) do
  redis.call('ZADD', P .. 'lane:' .. job[1], string.format('%.3f', job[2]), job[3])
end
if members[1] then
  call_many('SADD', holds, members)
  redis.call('HSET', calls, call, string.format('%d', ms))
  for queue, pass in pairs(virtual) do
    redis.call('HSET', P .. 'vtime', queue, string.format('%.3f', pass))
  end
end
move_all(started, 'PENDING', 'RUNNING')
return tell(given)
