#!lua flags=allow-oom
-- Notes that a job's total has been entered into its abacus, or cannot be.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 ref, 2 amount, 3 the abacus's sum after, 4 why it cannot be, or ''
-- RETURNS  1 if noted, 0 if it was noted before
local P = KEYS[1]
--!include clock
--!include job
local ref = ARGV[1]
if redis.call('SREM', P .. 'outbox', ref) == 0 then return 0 end
local key = P .. 'job:' .. ref
redis.call('HSET', key, 'post_amount', ARGV[2], 'post_sum', ARGV[3], 'post_error', ARGV[4])
local ms = now()
if ARGV[4] == '' then redis.call('HSET', key, 'posted', string.format('%d', ms)) end
forget_later(string.format('%d', spec_of(ref)[TTL] or USUAL_TTL), ms, {ref .. ' ' .. redis.call('HGET', key, 'epoch')})
emit(ref, 'posted')
return tell(1)
