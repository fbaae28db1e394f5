-- Lets a failed job run again: what is counted stays counted, everything else is leasable, attempts
-- anew. A new epoch begins, so that late results of the old one are refused.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 ref, 2 the epoch that has failed, or 0 for whichever it is, 3 most unfinished jobs of the
--          tenant on the shard
-- RETURNS  {code, state, how many chunks that were given up run again}: code 0 replayed, 1 replayed
--          before, 2 no such job, 3 it has not failed, 4 no further attempt can mend it, 5 too many
--          unfinished jobs
local P = KEYS[1]
--!include clock
--!include job
--!include letter
local ref, epoch = ARGV[1], tonumber(ARGV[2])
local key = P .. 'job:' .. ref
local job = redis.call('HMGET', key, 'state', 'epoch', 'n', 'next', 'spoilt', 'timeout',
  'error_reason', 'error_chunk', 'error_worker', 'error_message')
local state = job[1]
if not state then return {2, '', 0} end
if epoch > 0 and tonumber(job[2]) == epoch + 1 then return {1, state, 0} end
if state ~= 'FAILED' or (epoch > 0 and tonumber(job[2]) ~= epoch) then return {3, state, 0} end
if job[5] then return {4, state, 0} end
local tenant = string.match(ref, '^[^/]+')
local unfinished = redis.call('ZCARD', P .. 'state:' .. tenant .. ':PENDING')
  + redis.call('ZCARD', P .. 'state:' .. tenant .. ':RUNNING')
if unfinished >= tonumber(ARGV[3]) then return {5, state, 0} end

local ms, n = now(), tonumber(job[3])
-- The last step is leasable again by itself, once the others are over.
local given_out = math.min(tonumber(job[4]), n)
local dead = redis.call('HKEYS', P .. 'dead:' .. ref)
revive(ref, dead)
redis.call('ZREM', P .. 'again:' .. ref, n)
-- The others that were given out and are not counted. Beyond a string's end no bit is found, so it is
-- made long enough first.
local bits = P .. 'bits:' .. ref
redis.call('SETBIT', bits, n, 0)
local again, index = {}, 0
while index < given_out do
  index = redis.call('BITPOS', bits, 0, index, given_out - 1, 'BIT')
  if index < 0 then break end
  again[#again + 1] = index
  again[#again + 1] = index
  index = index + 1
end
call_many('ZADD', P .. 'again:' .. ref, again)

local now_epoch = tonumber(job[2]) + 1
redis.call('RPUSH', P .. 'replays:' .. ref, table.concat({string.format('%d', ms), now_epoch, #dead,
  job[7], job[8], job[9] == '' and '-' or job[9], job[10]}, ' '))
redis.call('LTRIM', P .. 'replays:' .. ref, -16, -1)
redis.call('HSET', key, 'epoch', now_epoch, 'next', given_out)
local times = redis.call('HMGET', key, 'started', 'ended')
-- It has done nothing since its end, which says nothing of how fast it is.
if times[1] then redis.call('HINCRBY', key, 'lay', string.format('%d', ms - times[2])) end
redis.call('HDEL', key, 'ended', 'counted', 'error_reason', 'error_chunk', 'error_worker',
  'error_message')
if tonumber(job[6]) > 0 then
  redis.call('ZADD', P .. 'deadlines', string.format('%d', ms + job[6]), ref)
end
set_state(ref, state, 'PENDING')
make_ready(ref, true)
return tell({0, 'PENDING', #dead})
