#!lua flags=allow-oom
-- Cancels a job.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 ref
-- RETURNS  {code, state}: code 0 cancelled now or before, 1 ended otherwise, 2 no such job
local P = KEYS[1]
--!include clock
--!include job
--!include halt
local ref = ARGV[1]
local state = redis.call('HGET', P .. 'job:' .. ref, 'state')
if not state then return {2, ''} end
if state == 'CANCELLED' then return {0, state} end
if is_final(state) then return {1, state} end
local ms = now()
for uid, calls in pairs(finish(ref, state, 'CANCELLED', ms)) do
  local text = '0'
  for call in pairs(calls) do text = text .. ' ' .. call end
  redis.call('HSET', P .. 'halting:' .. ref, uid, text)
  redis.call('SADD', P .. 'owing:' .. uid, ref)
end
note_halt(ref, ms)
return tell({0, 'CANCELLED'})
