#!lua flags=allow-oom
-- Counts results. A chunk counts once, by its own bit: the first result under the job's current epoch
-- wins, even from a lease that has ended; all others are refused.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 worker uid, 2 worker name, 3 most bytes of partials that a job may keep,
--          4 msgpack of the results: {{ref, epoch, first, count, attempt, sums, partials, result,
--          micros, age, elapsed}, …}; sums are numbers, or strings where a double would not hold them;
--          what does not apply is false; micros is the processor time of each, age how long ago the
--          first was begun, elapsed how long all took together, all in microseconds
-- RETURNS  {accepted, refused, {line of an event, …}}: what it tells to everyone as well; a repeat of
--          a result that counted is accepted and counts nothing
local P = KEYS[1]
--!include clock
--!include job
--!include letter
local uid, worker, most_kept = ARGV[1], ARGV[2], tonumber(ARGV[3])
local ms = now()
local accepted, refused = 0, 0
-- Bytes of a chunk's record: worker's index, attempt, refused results, and when leased, started and
-- committed, in milliseconds since the job was created.
local RECORD, FORMAT, UNKNOWN = 16, '<HBBIII', 4294967295
-- What is kept of a job that ended with its one chunk, as `end` in its hash: attempt, refused results, the
-- same three times, processor time; the worker's name follows, where the whole stays short.
local END, END_FORMAT = 19, '<BBIIII5'
-- A chunk's processor time is taken for at most so many microseconds (12 days): whatever a worker
-- says, those of all chunks stay within the 64 bits of their sum.
local LONGEST = 2 ^ 40 - 1

local function known_index(ref)
  return tonumber(redis.call('HGET', P .. 'index:' .. ref, worker) or -1)
end

local function worker_index(ref)
  local key = P .. 'index:' .. ref
  local index = known_index(ref)
  if index >= 0 then return index end
  index = math.min(redis.call('HLEN', key), 65535)
  redis.call('HSET', key, worker, index)
  return index
end

-- Of chunks that are counted a bit and a record are kept, unless one has ended its job alone.
local function is_counted(job, index)
  return job['end'] ~= false or redis.call('GETBIT', P .. 'bits:' .. job.ref, index) == 1
end

-- Whether a counted chunk's result came from this worker, by this attempt.
local function is_repeat(job, index, attempt)
  local known, is_own, tried = job['end'], nil, nil
  if known then
    is_own, tried = (job.worker or string.sub(known, END + 1)) == worker, string.byte(known)
  else
    local record = redis.call('GETRANGE', P .. 'records:' .. job.ref, index * RECORD, index * RECORD + 2)
    local by, try = struct.unpack('<HB', record)
    is_own, tried = by == known_index(job.ref), try
  end
  return is_own and tried == math.min(attempt, 255)
end

-- Notes that another result came for a chunk that is counted.
local function note_refused(job, index)
  redis.call('HINCRBY', job.key, 'refused', 1)
  local known, place = job['end'], index * RECORD + 3
  local times = string.byte(known and string.sub(known, 2, 2)
    or redis.call('GETRANGE', P .. 'records:' .. job.ref, place, place))
  if times == 255 then return end
  local more = string.char(times + 1)
  if known then
    redis.call('HSET', job.key, 'end', string.sub(known, 1, 1) .. more .. string.sub(known, 3))
  else
    redis.call('SETRANGE', P .. 'records:' .. job.ref, place, more)
  end
end

-- Adds to the job's total without ever holding in a double what it cannot hold. Answers false where
-- the total would leave the 64 bits.
local function add(key, sums)
  local part = 0
  local function flush(text)
    return type(redis.pcall('HINCRBY', key, 'total', text)) == 'number'
  end
  for _, sum in ipairs(sums) do
    if type(sum) == 'string' then
      if not flush(sum) then return false end
    else
      if math.abs(part) + math.abs(sum) > 2 ^ 52 then
        if not flush(string.format('%.0f', part)) then return false end
        part = 0
      end
      part = part + sum
    end
  end
  return part == 0 or flush(string.format('%.0f', part))
end

-- Answers the times of a chunk as they are kept, and its processor time.
local function times_of(created, leased, used, age)
  used = math.min(math.max(used or 0, 0), LONGEST)
  local committed = math.min(ms - created, UNKNOWN - 1)
  local began = age > 0 and committed - age or committed - used / 1000
  return leased and math.min(tonumber(leased) - created, UNKNOWN - 1) or UNKNOWN,
    math.floor(math.max(0, math.min(began, committed))), committed, used
end

-- What is done at the end for all jobs of one chunk together.
local over_held, over_ids, over_places = {}, {}, {}

-- Ends a job with its one chunk, which this worker has leased, so that nobody else can have worked on it:
-- in few steps, as such jobs come by the thousand. Sets further fields of it.
local function end_leased(job, leased, ...)
  local ref, posts = job.ref, job.abacus ~= ''
  redis.call('DEL', P .. 'leases:' .. ref, P .. 'fractions:' .. ref, P .. 'tries:' .. ref)
  if job.timeout ~= '0' then redis.call('ZREM', P .. 'deadlines', ref) end
  if posts then
    redis.call('SADD', P .. 'outbox', ref)
  else
    over_places[job.ttl] = over_places[job.ttl] or {}
    table.insert(over_places[job.ttl], ref .. ' ' .. job.epoch)
  end
  local version = string.format('%d', job.version + 1)
  redis.call('HSET', job.key, 'state', 'SUCCEEDED', 'version', version, ...)
  if job.labelled then move_labels(ref, 'RUNNING', 'SUCCEEDED') end
  over_held[#over_held + 1] = ref .. ' 0'
  list_id(over_ids, ref)
  news[#news + 1] = ref .. ' ' .. version .. ' ended ' .. job.epoch .. ' ' .. (posts and '1' or '0')
  -- Where its only lease is kept it tells when the job started.
  forget_plan(ref, leased == job.started and 'started' or 'next')
end

-- Ends a job with its one chunk.
local function end_single(job, attempt, sum, result, micros, age)
  local lease = redis.call('HGET', P .. 'leases:' .. job.ref, '0')
  local owner, leased = string.match(lease or '', '^(%S+) %S+ %d+ (%d+)$')
  local leased_at, began, committed, used = times_of(tonumber(job.created), leased, micros, age)
  local kept = struct.pack(END_FORMAT, math.min(attempt, 255), 0, leased_at, began, committed, used)
  local fields = {'end', kept .. worker}
  if #fields[2] > SHORT then fields = {'end', kept, 'worker', worker} end
  if result then
    keep_result(job.ref, result)
  else
    fields[#fields + 1] = 'total'
    fields[#fields + 1] = type(sum) == 'number' and string.format('%.0f', sum) or sum
  end
  if owner ~= uid then
    finish(job.ref, job.state, 'SUCCEEDED', ms, unpack(fields))
  else
    if committed == UNKNOWN - 1 then
      -- So late that it is not told by that.
      fields[#fields + 1] = 'ended'
      fields[#fields + 1] = string.format('%d', ms)
    end
    end_leased(job, leased, unpack(fields))
  end
end

local FIELDS = {'state', 'epoch', 'n', 'done', 'created', 'additive', 'next', 'abacus', 'ttl', 'timeout',
  'version', 'last_step', 'started', 'end', 'worker', 'labelled', 'pass', 'priority', 'queue', 'kernel'}

local function read_job(ref)
  local job = {ref = ref, key = P .. 'job:' .. ref}
  for i, value in ipairs(redis.call('HMGET', job.key, unpack(FIELDS))) do job[FIELDS[i]] = value end
  job.n = tonumber(job.n or 0)
  -- One that ended with its one chunk keeps little else.
  job.done = tonumber(job.done or job['end'] and 1 or 0)
  job.next = tonumber(job.next or job.n)
  return job
end

for _, group in ipairs(cmsgpack.unpack(ARGV[4])) do
  local ref, epoch, first, count, attempt = group[1], group[2], group[3], group[4], group[5]
  local sums, partials, result, micros = group[6], group[7], group[8], group[9]
  local age, each = group[10] / 1000, group[11] / 1000 / count
  local job = read_job(ref)
  local key, n, done = job.key, job.n, job.done
  local is_final_, is_additive = is_final(job.state), job.additive == '1'
  local dead = n > 1 and redis.call('HLEN', P .. 'dead:' .. ref) or 0
  local merged = first == n and count == 1 and done + dead == n
  -- Never leased under this job, or not of the form that the job's kernel gives.
  local foreign = not job.state or tonumber(job.epoch) ~= epoch or first + count > job.next
    or (first + count > n and not merged)
  if not foreign and not merged and not job['end'] then
    if is_additive then foreign = not sums else foreign = not (partials or (result and n == 1)) end
  end
  if foreign or is_final_ or (merged and not result) then
    -- Of an ended job, what counted before is only being repeated.
    local repeats = 0
    if not foreign and merged then
      repeats = job.last_step == worker .. ' ' .. attempt and 1 or 0
    elseif not foreign then
      for index = first, first + count - 1 do
        if is_counted(job, index) then
          if is_repeat(job, index, attempt) then
            repeats = repeats + 1
          else
            note_refused(job, index)
          end
        end
      end
    end
    accepted, refused = accepted + repeats, refused + count - repeats
  elseif merged then
    accepted = accepted + 1
    keep_result(ref, result)
    finish(ref, job.state, 'SUCCEEDED', ms, 'last_step', worker .. ' ' .. attempt)
  elseif n == 1 and done == 0 and (sums or result) then
    accepted = accepted + 1
    end_single(job, attempt, sums and sums[1], result, micros and micros[1], age)
  else
    local at = worker_index(ref)
    local created = tonumber(job.created)
    local indices = {}
    for i = 1, count do indices[i] = string.format('%d', first + i - 1) end
    local leases = get_many(P .. 'leases:' .. ref, indices)
    local has_tries = redis.call('EXISTS', P .. 'tries:' .. ref) == 1
    local counted, own, members, kept, records, spent, held = {}, {}, {}, {}, {}, 0, 0
    local kept_bytes, revived = 0, 0
    for i = 1, count do
      local index = indices[i]
      local is_dead = dead > 0 and redis.call('HEXISTS', P .. 'dead:' .. ref, index) == 1
      if is_dead and done + dead == n then
        -- The last step has begun without it.
        refused = refused + 1
        redis.call('HINCRBY', key, 'refused', 1)
      elseif redis.call('SETBIT', P .. 'bits:' .. ref, index, 1) == 0 then
        if is_dead then
          drop_letters(ref, {index})
          redis.call('HDEL', P .. 'dead:' .. ref, index)
          revived = revived + 1
        end
        local owner, leased = string.match(leases[i] or '', '^(%S+) %S+ %d+ (%d+)$')
        own[#own + 1] = index
        if owner == uid then
          members[#members + 1] = ref .. ' ' .. index
        elseif owner then
          redis.call('SREM', P .. 'held:' .. owner, ref .. ' ' .. index)
        else
          -- The lease had ended: the chunk may stand in line to be leased again.
          redis.call('ZREM', P .. 'again:' .. ref, index)
          redis.call('ZREM', P .. 'later:' .. ref, index)
        end
        if has_tries then redis.call('HDEL', P .. 'tries:' .. ref, index) end
        counted[#counted + 1] = sums and sums[i] or 0
        if partials then
          kept[#kept + 1] = index
          kept[#kept + 1] = partials[i]
          kept_bytes = kept_bytes + #partials[i]
        end
        local leased_at, began, committed, used = times_of(created, leased, micros and micros[i],
          age > 0 and math.max(age - (i - 1) * each, 0.001) or 0)
        records[i] = struct.pack(FORMAT, at, math.min(attempt, 255), 0, leased_at, began, committed)
        spent = spent + used
        -- A worker that tells no times is taken to have held the slot since the lease.
        local untold = used == 0 and each == 0 and leased and (ms - leased) * 1000 / count
        held = held + math.min(math.max(used, untold or each * 1000), LONGEST)
      else
        if is_repeat(job, index, attempt) then
          accepted = accepted + 1
        else
          refused = refused + 1
          note_refused(job, index)
        end
      end
    end
    accepted = accepted + #own
    if #own == count then
      redis.call('SETRANGE', P .. 'records:' .. ref, first * RECORD, table.concat(records))
    else
      for i, record in pairs(records) do
        redis.call('SETRANGE', P .. 'records:' .. ref, (first + i - 1) * RECORD, record)
      end
    end
    if #own > 0 then
      done = done + #own
      local is_over = done + dead - revived == n
      local is_exact = not is_additive or add(key, counted)
      if is_over then
        redis.call('DEL', P .. 'leases:' .. ref, P .. 'fractions:' .. ref)
      else
        call_many('HDEL', P .. 'leases:' .. ref, own)
        call_many('HDEL', P .. 'fractions:' .. ref, own)
      end
      call_many('SREM', P .. 'held:' .. uid, members)
      redis.call('HSET', key, 'done', string.format('%d', done))
      redis.call('HINCRBY', key, 'cpu', string.format('%.0f', spent))
      held = redis.call('HINCRBY', key, 'held', string.format('%.0f', held))
      if not is_over then
        local pass = pass_of(tonumber(job.pass), held, done, redis.call('HLEN', P .. 'leases:' .. ref),
          tonumber(job.priority))
        redis.call('ZADD', lane_of(job.queue, job.kernel), 'XX', string.format('%.3f', pass), ref)
      end
      redis.call('HINCRBY', P .. 'by:' .. ref, worker, #own)
      local all_kept = 0
      if kept[1] then
        call_many('HSET', P .. 'parts:' .. ref, kept)
        all_kept = redis.call('HINCRBY', key, 'kept', kept_bytes)
      end
      if not is_exact then
        redis.call('HSET', key, 'spoilt', 1)
        fail_job(ref, job.state, ms, 'CHUNK_FAILED', first, worker, 'the total leaves the 64 bits')
      elseif all_kept > most_kept then
        redis.call('HSET', key, 'spoilt', 1)
        fail_job(ref, job.state, ms, 'CHUNK_FAILED', first, worker,
          string.format('the partial results take more than %d bytes', most_kept))
      elseif not is_over then
        emit(ref, 'committed')
      else
        if not is_additive then emit(ref, 'committed') end
        conclude(ref, job.state, ms, is_additive)
      end
    end
  end
end
call_many('SREM', P .. 'held:' .. uid, over_held)
for ttl, places in pairs(over_places) do forget_later(ttl, ms, places) end
move_all(over_ids, 'RUNNING', 'SUCCEEDED')
return tell({accepted, refused, news})
