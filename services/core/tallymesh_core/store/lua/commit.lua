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
-- A chunk's processor time is taken for at most so many microseconds (12 days): whatever a worker
-- says, those of all chunks stay within the 64 bits of their sum.
local LONGEST = 2 ^ 40

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

-- Whether a counted chunk's result came from this worker, by this attempt.
local function is_repeat(ref, index, at, attempt)
  local record = redis.call('GETRANGE', P .. 'records:' .. ref, index * RECORD, index * RECORD + 2)
  local by, try = struct.unpack('<HB', record)
  return by == at and try == math.min(attempt, 255)
end

-- Notes that another result came for a chunk that is counted.
local function note_refused(ref, index)
  redis.call('HINCRBY', P .. 'job:' .. ref, 'refused', 1)
  local place = index * RECORD + 3
  local times = string.byte(redis.call('GETRANGE', P .. 'records:' .. ref, place, place))
  if times < 255 then
    redis.call('SETRANGE', P .. 'records:' .. ref, place, string.char(times + 1))
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

-- Packs a chunk's record, and answers its processor time besides.
local function record_of(at, attempt, created, leased, used, age)
  used = math.min(math.max(used or 0, 0), LONGEST)
  local committed = math.min(ms - created, UNKNOWN - 1)
  local began = age > 0 and committed - age or committed - used / 1000
  return struct.pack(FORMAT, at, math.min(attempt, 255), 0,
    leased and math.min(tonumber(leased) - created, UNKNOWN - 1) or UNKNOWN,
    math.floor(math.max(0, math.min(began, committed))), committed), used
end

-- What is done at the end for all jobs of one chunk together.
local over_held, over_ids, over_expiry = {}, {}, {}

-- Ends a job of one chunk, on which nobody else can have worked: in few steps, as such jobs come by
-- the thousand.
local function end_single(ref, job, leased, attempt, sum, result, used, age)
  local tenant, id = string.match(ref, '^([^/]+)/(.+)$')
  local at = job[2] == '1' and 0 or worker_index(ref)
  if at == 0 then redis.call('HSET', P .. 'index:' .. ref, worker, 0) end
  local record
  record, used = record_of(at, attempt, tonumber(job[5]), leased, used, age)
  redis.call('SETBIT', P .. 'bits:' .. ref, 0, 1)
  redis.call('SETRANGE', P .. 'records:' .. ref, 0, record)
  redis.call('HSET', P .. 'by:' .. ref, worker, 1)
  redis.call('DEL', P .. 'leases:' .. ref, P .. 'fractions:' .. ref, P .. 'tries:' .. ref)
  if job[10] ~= '0' then redis.call('ZREM', P .. 'deadlines', ref) end
  local posts = job[8] ~= ''
  if posts then redis.call('SADD', P .. 'outbox', ref) end
  local stamp, version = string.format('%d', ms), string.format('%d', job[11] + 1)
  local expires = string.format('%d', ms + job[9])
  redis.call('HSET', P .. 'job:' .. ref, 'state', 'SUCCEEDED', 'done', 1, 'cpu', string.format('%.0f', used),
    'counted', stamp, 'ended', stamp, 'expires', expires, 'version', version,
    result and 'result' or 'total', result or (type(sum) == 'string' and sum or string.format('%.0f', sum)))
  over_held[#over_held + 1] = ref .. ' 0'
  over_ids[tenant] = over_ids[tenant] or {}
  table.insert(over_ids[tenant], id)
  over_expiry[#over_expiry + 1] = expires
  over_expiry[#over_expiry + 1] = ref
  news[#news + 1] = ref .. ' ' .. version .. ' ended ' .. job[2] .. ' ' .. (posts and '1' or '0')
end

for _, group in ipairs(cmsgpack.unpack(ARGV[4])) do
  local ref, epoch, first, count, attempt = group[1], group[2], group[3], group[4], group[5]
  local sums, partials, result, micros = group[6], group[7], group[8], group[9]
  local age, each = group[10] / 1000, group[11] / 1000 / count
  local key = P .. 'job:' .. ref
  local job = redis.call('HMGET', key, 'state', 'epoch', 'n', 'done', 'created', 'additive',
    'next', 'abacus', 'ttl', 'timeout', 'version', 'last_step')
  local owner, leased_at
  if job[3] == '1' and job[1] == 'RUNNING' and tonumber(job[2]) == epoch and first == 0 and count == 1
    and (job[6] == '1' and sums or job[6] ~= '1' and result) then
    local lease = redis.call('HGET', P .. 'leases:' .. ref, '0')
    owner, leased_at = string.match(lease or '', '^(%S+) %S+ %d+ (%d+)$')
  end
  local n, done = tonumber(job[3] or 0), tonumber(job[4] or 0)
  local dead = redis.call('HLEN', P .. 'dead:' .. ref)
  local merged = first == n and count == 1 and done + dead == n
  -- Never leased under this job, or not of the form that the job's kernel gives.
  local foreign = not job[1] or tonumber(job[2]) ~= epoch or first + count > tonumber(job[7])
    or (first + count > n and not merged)
  if not foreign and not merged then
    if job[6] == '1' then foreign = not sums else foreign = not (partials or (result and n == 1)) end
  end
  if owner == uid then
    -- Its lease stands, so the chunk stands nowhere else.
    end_single(ref, job, leased_at, attempt, sums and sums[1], result, micros and micros[1], age)
    accepted = accepted + 1
  elseif foreign or is_final(job[1]) or (merged and not result) then
    -- Of an ended job, what counted before is only being repeated.
    local repeats = 0
    if not foreign and merged then
      repeats = job[12] == worker .. ' ' .. attempt and 1 or 0
    elseif not foreign then
      local at = known_index(ref)
      for index = first, first + count - 1 do
        if redis.call('GETBIT', P .. 'bits:' .. ref, index) == 1 then
          if is_repeat(ref, index, at, attempt) then
            repeats = repeats + 1
          else
            note_refused(ref, index)
          end
        end
      end
    end
    accepted, refused = accepted + repeats, refused + count - repeats
  elseif merged then
    accepted = accepted + 1
    finish(ref, job[1], 'SUCCEEDED', ms, 'result', result, 'last_step', worker .. ' ' .. attempt)
  else
    local at = worker_index(ref)
    local created = tonumber(job[5])
    local indices = {}
    for i = 1, count do indices[i] = string.format('%d', first + i - 1) end
    local leases = get_many(P .. 'leases:' .. ref, indices)
    local has_tries = redis.call('EXISTS', P .. 'tries:' .. ref) == 1
    local counted, own, members, kept, records, spent = {}, {}, {}, {}, {}, 0
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
        local used
        records[i], used = record_of(at, attempt, created, leased, micros and micros[i],
          age > 0 and math.max(age - (i - 1) * each, 0.001) or 0)
        spent = spent + used
      else
        if is_repeat(ref, index, at, attempt) then
          accepted = accepted + 1
        else
          refused = refused + 1
          note_refused(ref, index)
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
      local is_over, is_additive = done + dead - revived == n, job[6] == '1'
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
      redis.call('HINCRBY', P .. 'by:' .. ref, worker, #own)
      local all_kept = 0
      if kept[1] then
        call_many('HSET', P .. 'parts:' .. ref, kept)
        all_kept = redis.call('HINCRBY', key, 'kept', kept_bytes)
      end
      if not is_exact then
        redis.call('HSET', key, 'spoilt', 1)
        fail_job(ref, job[1], ms, 'CHUNK_FAILED', first, worker, 'the total leaves the 64 bits')
      elseif all_kept > most_kept then
        redis.call('HSET', key, 'spoilt', 1)
        fail_job(ref, job[1], ms, 'CHUNK_FAILED', first, worker,
          string.format('the partial results take more than %d bytes', most_kept))
      elseif not is_over then
        emit(ref, 'committed')
      elseif result then
        finish(ref, job[1], 'SUCCEEDED', ms, 'result', result, 'counted', string.format('%d', ms))
      else
        if not is_additive then emit(ref, 'committed') end
        conclude(ref, job[1], ms, is_additive)
      end
    end
  end
end
if over_held[1] then
  call_many('SREM', P .. 'held:' .. uid, over_held)
  call_many('ZADD', P .. 'expiry', over_expiry)
  for tenant, ids in pairs(over_ids) do
    call_many('ZREM', P .. 'state:' .. tenant .. ':RUNNING', ids)
    local scored = {}
    for i, id in ipairs(ids) do scored[2 * i - 1], scored[2 * i] = 0, id end
    call_many('ZADD', P .. 'state:' .. tenant .. ':SUCCEEDED', scored)
  end
end
return tell({accepted, refused, news})
