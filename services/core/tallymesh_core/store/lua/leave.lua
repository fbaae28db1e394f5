#!lua flags=allow-oom
-- Forgets a worker that is leaving, once it holds nothing. A call of its that comes later than that
-- does not bring it back.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 worker uid, 2 seconds for which its going is remembered
-- RETURNS  1 if it is forgotten, 0 if it still holds chunks
local P = KEYS[1]
--!include clock
--!include job
--!include halt
local uid = ARGV[1]
if redis.call('SCARD', P .. 'held:' .. uid) > 0 then return 0 end
note_gone(uid, now())
redis.call('DEL', P .. 'held:' .. uid, P .. 'calls:' .. uid, P .. 'owner:' .. uid)
redis.call('ZREM', P .. 'owners', uid)
redis.call('SET', P .. 'left:' .. uid, '', 'EX', ARGV[2])
return tell(1)
