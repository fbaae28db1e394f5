#!lua flags=allow-oom
-- Asks workers to leave: the answer to the next call of each tells it so.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 … their uids
-- RETURNS  how many of them are alive
local P = KEYS[1]
local told = 0
for _, uid in ipairs(ARGV) do
  if redis.call('ZSCORE', P .. 'owners', uid) then
    redis.call('HSET', P .. 'owner:' .. uid, 'drain', 1)
    told = told + 1
  end
end
return told
