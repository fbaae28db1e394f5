-- Accepts jobs, all or none. The cost of one does not depend on its number of chunks.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 tenant, 2 seconds for which a request id is remembered, 3 most unfinished jobs of the
--          tenant on the shard,
--          4 msgpack of the jobs: {{job id, request id or '', hash of the request, spec as specs.py packs
--          it, work}, …}
-- RETURNS  {when in ms, code, job id, code, job id, …}
--          code 0 accepted, 1 accepted before under this request id (job id is that job's),
--          2 request id used with another request, 3 too many unfinished jobs, 4 the job id is taken,
--          5 accepted before under this request id, and gone since;
--          with one of the last four nothing has been accepted
local P = KEYS[1]
--!include clock
--!include job
local tenant = ARGV[1]
local jobs = cmsgpack.unpack(ARGV[4])
local answer, is_refused, fresh = {0}, false, 0
local seen, taken = {}, {}

local function key_of(job)
  return P .. 'request:' .. tenant .. '/' .. job.spec[QUEUE] .. '/' .. job[2]
end

for i, job in ipairs(jobs) do
  job.spec = cmsgpack.unpack(job[4])
  local code, id = 0, job[1]
  local before = job[2] ~= '' and (seen[key_of(job)] or redis.call('GET', key_of(job)))
  if before then
    local hash, first = string.match(before, '^(%S+) (%S+)$')
    local is_kept = taken[first] or redis.call('EXISTS', P .. 'job:' .. tenant .. '/' .. first) == 1
    code, id = hash ~= job[3] and 2 or is_kept and 1 or 5, first
  elseif taken[id] or redis.call('EXISTS', P .. 'job:' .. tenant .. '/' .. id) == 1 then
    code = 4
  else
    taken[id] = true
    fresh = fresh + 1
    if job[2] ~= '' then seen[key_of(job)] = job[3] .. ' ' .. id end
  end
  is_refused = is_refused or code == 2 or code == 4 or code == 5
  answer[2 * i], answer[2 * i + 1] = code, id
end
local unfinished = redis.call('ZCARD', P .. 'state:' .. tenant .. ':PENDING')
  + redis.call('ZCARD', P .. 'state:' .. tenant .. ':RUNNING')
if fresh > 0 and unfinished + fresh > tonumber(ARGV[3]) then
  for i = 1, #jobs do
    if answer[2 * i] == 0 then answer[2 * i] = 3 end
  end
  is_refused = true
end
if is_refused or fresh == 0 then return answer end

local ms = now()
answer[1] = ms
local stamp = string.format('%d', ms)
redis.call('SADD', P .. 'tenants', tenant)
local pending, lanes, chunks, virtual = {}, {}, {}, {}
for i, job in ipairs(jobs) do
  if answer[2 * i] == 0 then
    local ref, spec = tenant .. '/' .. job[1], job.spec
    local key, queue, timeout = P .. 'job:' .. ref, spec[QUEUE], spec[TIMEOUT] or 0
    virtual[queue] = virtual[queue] or tonumber(redis.call('HGET', P .. 'vtime', queue) or 0)
    -- A new job starts at its queue's virtual time: it neither waits nor catches up.
    local pass = string.format('%.3f', virtual[queue])
    local more = {}
    for at, name in pairs({[4] = 'spec', [5] = 'work'}) do
      if #job[at] <= SHORT then
        more[#more + 1] = name
        more[#more + 1] = job[at]
      else
        redis.call('SET', P .. name .. ':' .. ref, job[at])
      end
    end
    redis.call('HSET', key, 'state', 'PENDING', 'epoch', 1, 'n', spec[COUNT], 'done', 0, 'next', 0,
      'version', 1, 'created', stamp, 'pass', pass, 'queue', queue, 'kernel', spec[KERNEL],
      'additive', spec[ADDITIVE], 'priority', spec[PRIORITY], 'max_attempts', spec[MAX_ATTEMPTS],
      'tolerate', spec[TOLERATE] or 0, 'abacus', spec[ABACUS] or '', 'ttl', string.format('%d', spec[TTL] or USUAL_TTL),
      'timeout', string.format('%d', timeout), unpack(more))
    if next(spec[LABELS] or {}) then
      redis.call('HSET', key, 'labelled', 1)
      move_labels(ref, nil, 'PENDING')
    end
    pending[#pending + 1] = job[1]
    local lane = queue .. '/' .. spec[KERNEL]
    lanes[lane] = lanes[lane] or {}
    table.insert(lanes[lane], pass)
    table.insert(lanes[lane], ref)
    chunks[lane] = (chunks[lane] or 0) + spec[COUNT]
    if timeout > 0 then
      redis.call('ZADD', P .. 'deadlines', string.format('%d', ms + timeout), ref)
    end
    if job[2] ~= '' then redis.call('SET', key_of(job), job[3] .. ' ' .. job[1], 'EX', ARGV[2]) end
  end
end
move_all({[tenant] = pending}, nil, 'PENDING')
for lane, members in pairs(lanes) do
  call_many('ZADD', P .. 'lane:' .. lane, members)
  -- One line for all jobs of a lane: nobody can be watching any of them yet.
  news[#news + 1] = string.format('%s 1 ready %s %d', members[2], lane, chunks[lane])
end
return tell(answer)
