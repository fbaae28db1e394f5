-- Accepts a job. Its cost does not depend on the number of chunks.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 tenant, 2 job id, 3 request id or '', 4 hash of the request, 5 seconds for which a
--          request id is remembered, 6 most unfinished jobs of the tenant on the shard,
--          7 … the job's fields and values in turn (queue, kernel, n, … as jobs.py names them)
-- RETURNS  {code, job id, when in ms}
--          code 0 accepted, 1 accepted before under this request id (job id is that job's),
--          2 request id used with another request, 3 too many unfinished jobs, 4 the job id is taken
local P = KEYS[1]
--!include clock
--!include job
local tenant, id, request_id = ARGV[1], ARGV[2], ARGV[3]
local field = {}
for i = 7, #ARGV, 2 do field[ARGV[i]] = ARGV[i + 1] end
local remembered = P .. 'request:' .. tenant .. '/' .. field.queue .. '/' .. request_id
if request_id ~= '' then
  local seen = redis.call('GET', remembered)
  if seen then
    local hash, first = string.match(seen, '^(%S+) (%S+)$')
    if hash == ARGV[4] then return {1, first, 0} end
    return {2, first, 0}
  end
end
local unfinished = redis.call('ZCARD', P .. 'state:' .. tenant .. ':PENDING')
  + redis.call('ZCARD', P .. 'state:' .. tenant .. ':RUNNING')
if unfinished >= tonumber(ARGV[6]) then return {3, '', 0} end

local ref = tenant .. '/' .. id
if redis.call('EXISTS', P .. 'job:' .. ref) == 1 then return {4, '', 0} end
local ms = now()
redis.call('HSET', P .. 'job:' .. ref, 'state', 'PENDING', 'created', string.format('%d', ms),
  'next', 0, 'done', 0, 'epoch', 1, unpack(ARGV, 7))
redis.call('ZADD', P .. 'state:' .. tenant .. ':PENDING', 0, id)
redis.call('SADD', P .. 'tenants', tenant)
if request_id ~= '' then
  redis.call('SET', remembered, ARGV[4] .. ' ' .. id, 'EX', ARGV[5])
end
make_ready(ref)
return {0, id, ms}
