#!lua flags=allow-oom
-- Deletes an abacus with its ledger. What its ids stand for stays remembered.
--
-- KEYS[1]  prefix of the shard
-- ARGV     seven of its id (abacus_memory), etag that the abacus is to have ("" for any)
-- RETURNS  code, state before
--          0 deleted
--          1 repeated: done before; the state is that of then
--          2 the id stands for another request; nothing done, the state is ""
--          3 the abacus has another etag; nothing done, the state is as it is
--          4 the id may have been forgotten; nothing done, the state is ""
--          5 there is no such abacus
local P = KEYS[1]
--!include clock
--!include abacus_memory
--!include abacus_state

local DELETED, REPEATED, REUSED, CHANGED, FORGOTTEN, MISSING = 0, 1, 2, 3, 4, 5
local abacus, once, expected = ARGV[1], read_once(1), ARGV[8]
local time = now()

local record = recall(once)
if record then
  if string.sub(record, 1, #once.fingerprint) ~= once.fingerprint then return { REUSED, '' } end
  return { REPEATED, string.sub(record, #once.fingerprint + 2) }
end
if is_forgotten(once, time) then return { FORGOTTEN, '' } end
local before = state(abacus)
if before == '' then return { MISSING, '' } end
if expected ~= '' and expected ~= etag(abacus) then return { CHANGED, before } end

local version = tonumber(redis.call('HGET', abacus_key(abacus), 'v'))
if version > tonumber(redis.call('GET', P .. 'abacus-versions') or 0) then
  redis.call('SET', P .. 'abacus-versions', string.format('%d', version))
end
redis.call('UNLINK', abacus_key(abacus), ledger_key(abacus))
local set, name = place(abacus)
redis.call('ZREM', set, name)
remember(once, time, once.fingerprint .. ' ' .. before)
announce(abacus)
return { DELETED, before }
