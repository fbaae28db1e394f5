-- What the transitions of a job share. Needs P, the shard's key prefix.
--!include spec
-- A job is known by its ref, `<tenant>/<id>`; a chunk by "<ref> <index>".

-- What tell() is to tell, a line each.
local news = {}

-- Notes that a job changed: its new version, what happened, and what that sort of event adds (events.py
-- tells what).
local function emit(ref, kind, extra)
  local version = redis.call('HINCRBY', P .. 'job:' .. ref, 'version', 1)
  news[#news + 1] = ref .. ' ' .. version .. ' ' .. kind .. ' ' .. (extra or '')
end

-- Tells everybody who tails the shard what was noted, and returns what it is given: the last thing that
-- a transition does.
local function tell(answer)
  for first = 1, #news, 100 do
    redis.call('XADD', P .. 'events', 'MAXLEN', '~', '8192', '*', 'news',
      table.concat(news, '\n', first, math.min(first + 99, #news)))
  end
  return answer
end

-- Calls a variadic command for any number of arguments; Lua cannot unpack more than ~8,000 at once.
-- Answers the sum of what it answers.
local function call_many(command, key, arguments)
  local sum = 0
  for first = 1, #arguments, 4000 do
    sum = sum + redis.call(command, key, unpack(arguments, first, math.min(first + 3999, #arguments)))
  end
  return sum
end

-- Reads fields of a hash, however many, as HMGET does.
local function get_many(key, fields)
  local values = {}
  for first = 1, #fields, 4000 do
    local some = redis.call('HMGET', key, unpack(fields, first, math.min(first + 3999, #fields)))
    for i = 1, #some do values[first + i - 1] = some[i] end
  end
  return values
end

local function lane_of(queue, kernel)
  return P .. 'lane:' .. queue .. '/' .. kernel
end

-- Microseconds that a leased chunk is expected to take at least, while no chunk of its job has been counted.
local TRIAL = 10000
-- Milliseconds that chunks may wait in their workers' lines: only after these are they taken to run.
local IN_LINE = 250

-- A job's pass, by which the jobs of a queue take turns: where it began, and by its weight the slot time that its
-- counted chunks have taken (`held`, in microseconds) and that the leased ones are expected to take: the mean of
-- the counted ones or, where none is counted, as long again as they have run (`age`: milliseconds since the first
-- was leased).
local function pass_of(began, held, done, leased, priority, age)
  local each = done > 0 and held / done or (age or 0) > IN_LINE and 2 * age * 1000 or TRIAL
  return began + (held + leased * each) / 2 ^ priority
end

-- Puts a job among those that have chunks to lease, and tells who waits for such. One that has slept, with
-- nothing to lease by its own doing, begins at its queue's virtual time, so that it neither catches up on what it
-- slept through nor waits. One whose chunks come back from workers keeps its turn.
local function make_ready(ref, has_slept)
  local job = redis.call('HMGET', P .. 'job:' .. ref, 'queue', 'kernel', 'pass', 'n', 'next', 'done', 'held',
    'priority')
  local done = tonumber(job[6])
  local over = done + redis.call('HLEN', P .. 'dead:' .. ref)
  local virtual = tonumber(redis.call('HGET', P .. 'vtime', job[1]) or 0)
  local began, leased = tonumber(job[3]), redis.call('HLEN', P .. 'leases:' .. ref)
  local pass = pass_of(began, tonumber(job[7] or 0), done, leased, tonumber(job[8]))
  if has_slept and pass < virtual then
    redis.call('HSET', P .. 'job:' .. ref, 'pass', string.format('%.3f', began + virtual - pass))
    pass = virtual
  end
  redis.call('ZADD', lane_of(job[1], job[2]), string.format('%.3f', pass), ref)
  local n = tonumber(job[4])
  local leasable = redis.call('ZCARD', P .. 'again:' .. ref)
    + math.max(0, (over == n and n + 1 or n) - tonumber(job[5]))
  emit(ref, 'ready', job[1] .. '/' .. job[2] .. ' ' .. string.format('%d', leasable))
end

-- Takes a labelled job, for each of its labels, out of the set of those in one state and puts it into
-- that of another; either may be nil.
local function move_labels(ref, old, new)
  local tenant, id = string.match(ref, '^([^/]+)/(.+)$')
  for name, value in pairs(spec_of(ref)[LABELS]) do
    local label = name .. '=' .. value
    if old then redis.call('ZREM', P .. 'label:' .. tenant .. ':' .. old .. ':' .. label, id) end
    if new then redis.call('ZADD', P .. 'label:' .. tenant .. ':' .. new .. ':' .. label, 0, id) end
  end
end

-- Moves jobs that have gone from one state to another between the sets that list them by it: lists of ids
-- by tenant. Labelled ones are to be moved besides.
local function move_all(ids_of, old, new)
  for tenant, ids in pairs(ids_of) do
    local scored = {}
    for i, id in ipairs(ids) do scored[2 * i - 1], scored[2 * i] = 0, id end
    if old then call_many('ZREM', P .. 'state:' .. tenant .. ':' .. old, ids) end
    call_many('ZADD', P .. 'state:' .. tenant .. ':' .. new, scored)
  end
end

-- Adds a job to such lists.
local function list_id(ids_of, ref)
  local tenant, id = string.match(ref, '^([^/]+)/(.+)$')
  ids_of[tenant] = ids_of[tenant] or {}
  table.insert(ids_of[tenant], id)
end

-- Brings a job into another state, and sets further fields of it.
local function set_state(ref, old, new, ...)
  local ids_of = {}
  list_id(ids_of, ref)
  move_all(ids_of, old, new)
  if redis.call('HEXISTS', P .. 'job:' .. ref, 'labelled') == 1 then move_labels(ref, old, new) end
  redis.call('HSET', P .. 'job:' .. ref, 'state', new, ...)
end

-- Has ended jobs be forgotten once their ttl is over: each a ref and the epoch that has ended. Those of
-- one ttl stand in one line, in the order of their ends, as a place there takes far less room than one in a
-- sorted set. `expiry` holds the lines, by when the first in each is due.
local function forget_later(ttl, ms, places)
  local line = P .. 'expiring:' .. ttl
  if redis.call('EXISTS', line) == 0 then
    redis.call('ZADD', P .. 'expiry', string.format('%d', ms + ttl), ttl)
  end
  call_many('RPUSH', line, places)
end

-- Keeps the result of a job.
local function keep_result(ref, result)
  if #result <= SHORT then
    redis.call('HSET', P .. 'job:' .. ref, 'result', result)
  else
    redis.call('SET', P .. 'result:' .. ref, result)
    redis.call('HSET', P .. 'job:' .. ref, 'result_bytes', string.format('%d', #result))
  end
end

-- Lets go what only the scheduling of a job needs that is over for good: such of one chunk are many.
local function forget_plan(ref, ...)
  redis.call('HDEL', P .. 'job:' .. ref, 'next', 'done', 'pass', 'held', 'queue', 'kernel', 'additive', 'priority',
    'max_attempts', 'tolerate', 'abacus', 'ttl', 'timeout', ...)
end

local function is_final(state)
  return state == 'SUCCEEDED' or state == 'FAILED' or state == 'CANCELLED'
end

-- Brings a job to a final state and clears it from every working set. The event names
-- the owners of chunks that were running, so that they are told to stop. Answers for each of them
-- the calls by which it was given those. Sets further fields of the job.
local function finish(ref, old, new, ms, ...)
  local key = P .. 'job:' .. ref
  local owners, calls = {}, {}
  local leases = redis.call('HGETALL', P .. 'leases:' .. ref)
  for i = 1, #leases, 2 do
    local owner, call = string.match(leases[i + 1], '^(%S+) (%S+)')
    redis.call('SREM', P .. 'held:' .. owner, ref .. ' ' .. leases[i])
    if not calls[owner] then
      calls[owner] = {}
      owners[#owners + 1] = owner
    end
    calls[owner][call] = true
  end
  local over = {P .. 'leases:' .. ref, P .. 'again:' .. ref, P .. 'later:' .. ref, P .. 'tries:' .. ref,
    P .. 'fractions:' .. ref}
  -- A replay goes on with the partial results of a failed job.
  if new ~= 'FAILED' then over[#over + 1] = P .. 'parts:' .. ref end
  redis.call('DEL', unpack(over))
  redis.call('ZREM', P .. 'delayed', ref)
  local job = redis.call('HMGET', key, 'queue', 'kernel', 'abacus', 'epoch', 'ttl', 'timeout', 'n')
  if job[6] ~= '0' then redis.call('ZREM', P .. 'deadlines', ref) end
  redis.call('ZREM', lane_of(job[1], job[2]), ref)
  set_state(ref, old, new, 'ended', string.format('%d', ms), ...)
  local posts = new == 'SUCCEEDED' and job[3] ~= ''
  if posts then
    -- It is not forgotten before its total is posted.
    redis.call('SADD', P .. 'outbox', ref)
  else
    forget_later(job[5], ms, {ref .. ' ' .. job[4]})
  end
  if new == 'SUCCEEDED' and job[7] == '1' then forget_plan(ref) end
  emit(ref, 'ended', table.concat({job[4], posts and '1' or '0', unpack(owners)}, ' '))
  return calls
end

-- Ends a job as failed and says why.
local function fail_job(ref, old, ms, reason, chunk, worker, message)
  redis.call('HSET', P .. 'job:' .. ref, 'error_reason', reason,
    'error_chunk', string.format('%d', chunk), 'error_worker', worker, 'error_message', message)
  finish(ref, old, 'FAILED', ms)
end

-- Takes a chunk from its owner.
local function end_lease(ref, index, owner)
  redis.call('HDEL', P .. 'leases:' .. ref, index)
  redis.call('HDEL', P .. 'fractions:' .. ref, index)
  redis.call('SREM', P .. 'held:' .. owner, ref .. ' ' .. index)
end

-- How often a chunk's attempts have failed, how often its worker was lost, and how many attempts
-- there were before its replay.
local function tries_of(ref, index)
  local packed = redis.call('HGET', P .. 'tries:' .. ref, index)
  if not packed then return 0, 0, 0 end
  local failed, lost, before = string.match(packed, '^(%d+) (%d+) (%d+)$')
  return tonumber(failed), tonumber(lost), tonumber(before)
end

local function pack_tries(failed, lost, before)
  return string.format('%d %d %d', failed, lost, before)
end

local function set_tries(ref, index, failed, lost, before)
  redis.call('HSET', P .. 'tries:' .. ref, index, pack_tries(failed, lost, before))
end

-- Every chunk is counted or given up: ends the job, or lets its last step be leased.
local function conclude(ref, state, ms, is_additive)
  if is_additive then
    finish(ref, state, 'SUCCEEDED', ms)
  else
    redis.call('HSET', P .. 'job:' .. ref, 'counted', string.format('%d', ms))
    make_ready(ref)
  end
end
