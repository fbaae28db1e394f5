-- Forgets a worker that is leaving, once it holds nothing.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 worker uid
-- RETURNS  1 if it is forgotten, 0 if it still holds chunks
local P = KEYS[1]
local uid = ARGV[1]
if redis.call('SCARD', P .. 'held:' .. uid) > 0 then return 0 end
redis.call('DEL', P .. 'held:' .. uid, P .. 'calls:' .. uid, P .. 'owner:' .. uid)
redis.call('ZREM', P .. 'owners', uid)
return 1
