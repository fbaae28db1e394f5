-- Cancels a job.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 ref
-- RETURNS  {code, state}: code 0 cancelled now or before, 1 ended otherwise, 2 no such job
local P = KEYS[1]
--!include clock
--!include job
local ref = ARGV[1]
local state = redis.call('HGET', P .. 'job:' .. ref, 'state')
if not state then return {2, ''} end
if state == 'CANCELLED' then return {0, state} end
if is_final(state) then return {1, state} end
finish(ref, state, 'CANCELLED', now())
return {0, 'CANCELLED'}
