-- Adds what a batch of a stream comes to, as one change. The batches of a stream are numbered from 1 on;
-- what is remembered under the stream's id is the number of the last one added.
--
-- KEYS[1]  prefix of the shard
-- ARGV     limit of a limb, how many entries a ledger keeps, seven of the stream's id (abacus_memory; the
--          fingerprint is ""), number of the batch, entry in the ledger, how many adds are in it, and for
--          each limb its index and its value
-- RETURNS  code, state, number of the last batch of the stream that was added
--          0 added                              the abacus just after
--          1 repeated: it was added before      the abacus as it is
--          2 batches before it are missing; nothing done             ""
--          3 the stream may have been forgotten; nothing done        ""
local P = KEYS[1]
--!include clock
--!include abacus_memory
--!include abacus_state
--!include abacus_rods

local ADDED, REPEATED, MISSING, FORGOTTEN = 0, 1, 2, 3
local limit, kept, abacus = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local once = read_once(3)
local sequence, entry, adds = unpack(ARGV, 10, 12)
local time = now()

if once.id ~= '' then
  local record = recall(once)
  local last = record or '0'
  if not record and is_forgotten(once, time) then return { FORGOTTEN, '', last } end
  if tonumber(sequence) <= tonumber(last) then return { REPEATED, state(abacus), last } end
  if tonumber(sequence) > last + 1 then return { MISSING, '', last } end
end

turn_all(abacus, 13, #ARGV, limit)
advance(abacus, adds, time, kept, entry)
remember(once, time, sequence)
announce(abacus)
return { ADDED, state(abacus), sequence }
