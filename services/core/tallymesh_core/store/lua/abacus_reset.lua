#!lua flags=allow-oom
-- Sets an abacus to 0. Its version goes on, and what its ids stand for stays remembered.
--
-- KEYS[1]  prefix of the shard
-- ARGV     seven of its id (abacus_memory), how many entries a ledger keeps, entry in the ledger, etag that
--          the abacus is to have ("" for any)
-- RETURNS  code, state before, state after
--          0 reset
--          1 repeated: done before; the states are those of then
--          2 the id stands for another request; nothing done, the states are ""
--          3 the abacus has another etag; nothing done, both states are as it is
--          4 the id may have been forgotten; nothing done, the states are ""
local P = KEYS[1]
--!include clock
--!include abacus_memory
--!include abacus_state

local RESET, REPEATED, REUSED, CHANGED, FORGOTTEN = 0, 1, 2, 3, 4
local abacus, once = ARGV[1], read_once(1)
local kept, entry, expected = unpack(ARGV, 8, 10)
local time = now()

local record = recall(once)
if record then
  if string.sub(record, 1, #once.fingerprint) ~= once.fingerprint then return { REUSED, '', '' } end
  local before, after = string.match(string.sub(record, #once.fingerprint + 2), '^(.*)|(.*)$')
  return { REPEATED, before, after }
end
if is_forgotten(once, time) then return { FORGOTTEN, '', '' } end
local before = state(abacus)
if expected ~= '' and expected ~= etag(abacus) then return { CHANGED, before, before } end

local key = abacus_key(abacus)
local version = redis.call('HGET', key, 'v')
redis.call('DEL', key)
if version then redis.call('HSET', key, 'v', version) end
advance(abacus, 0, time, kept, entry, 'before', before)
local after = state(abacus)
remember(once, time, once.fingerprint .. ' ' .. before .. '|' .. after)
announce(abacus)
return { RESET, before, after }
