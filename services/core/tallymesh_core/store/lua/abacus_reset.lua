-- Sets an abacus to 0. Its version goes on, and what its ids stand for stays remembered.
--
-- KEYS[1]  prefix of the shard
-- ARGV     abacus, memory, window in ms, id ("" for none), fingerprint of the request,
--          etag that the abacus is to have ("" for any)
-- RETURNS  code, state before, state after
--          0 reset
--          1 repeated: done before; the states are those of then
--          2 the id stands for another request; nothing done, the states are ""
--          3 the abacus has another etag; nothing done, both states are as it is
local P = KEYS[1]
--!include clock
--!include abacus_memory
--!include abacus_state

local RESET, REPEATED, REUSED, CHANGED = 0, 1, 2, 3
local abacus, memory, window, id, fingerprint, expected = unpack(ARGV)
window = tonumber(window)
local time = now()

local record = id ~= '' and recall(abacus, memory, window, id, time)
if record then
  if string.sub(record, 1, #fingerprint) ~= fingerprint then return { REUSED, '', '' } end
  local before, after = string.match(string.sub(record, #fingerprint + 2), '^(.*)|(.*)$')
  return { REPEATED, before, after }
end

local key = abacus_key(abacus)
local before = state(abacus)
if expected ~= '' and expected ~= etag(abacus) then return { CHANGED, before, before } end
local version = redis.call('HINCRBY', key, 'v', 1)
redis.call('DEL', key)
redis.call('HSET', key, 'v', string.format('%d', version), 'n', 0, 't', string.format('%d', time))
local after = state(abacus)
if id ~= '' then
  remember(abacus, memory, window, id, time, fingerprint .. ' ' .. before .. '|' .. after)
end
announce(abacus)
return { RESET, before, after }
