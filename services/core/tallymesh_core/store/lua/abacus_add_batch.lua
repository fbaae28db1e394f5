-- Adds what a batch of a stream comes to, as one change. The batches of a stream are numbered from 1 on;
-- what is remembered under the stream's id is the number of the last one added, and, the newest first,
-- the beginnings of the fingerprints of the last of them.
--
-- KEYS[1]  prefix of the shard
-- ARGV     limit of a limb, how many entries a ledger keeps, seven of the stream's id (abacus_memory; the
--          fingerprint is the batch's), number of the batch, entry in the ledger, how many adds are in it, and for
--          each limb its index and its value
-- RETURNS  code, state, number of the last batch of the stream that was added
--          0 added                              the abacus just after
--          1 repeated: it was added before      the abacus as it is
--          2 batches before it are missing; nothing done             ""
--          3 the stream may have been forgotten; nothing done        ""
--          4 the number stands for another batch; nothing done       ""
local P = KEYS[1]
--!include clock
--!include abacus_memory
--!include abacus_state
--!include abacus_rods

local ADDED, REPEATED, MISSING, FORGOTTEN, REUSED = 0, 1, 2, 3, 4
-- Of so many batches fingerprints are kept, as many as a client sends in one call; and so much of each.
local MARKS, DIGITS = 32, 8
local limit, kept, abacus = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local once = read_once(3)
local sequence, entry, adds = unpack(ARGV, 10, 12)
local time = now()

local mark, marks = string.sub(once.fingerprint, 1, DIGITS), ''
if once.id ~= '' then
  local record = recall(once)
  local last = '0'
  if record then
    -- An earlier program kept the number alone.
    last, marks = string.match(record, '^(%d+) ?(%x*)$')
  elseif is_forgotten(once, time) then
    return { FORGOTTEN, '', last }
  end
  local newer = last - sequence
  if newer >= 0 then
    local known = string.sub(marks, newer * DIGITS + 1, (newer + 1) * DIGITS)
    if known ~= '' and known ~= mark then return { REUSED, '', last } end
    return { REPEATED, state(abacus), last }
  end
  if newer < -1 then return { MISSING, '', last } end
end

turn_all(abacus, 13, #ARGV, limit)
advance(abacus, adds, time, kept, entry)
remember(once, time, sequence .. ' ' .. string.sub(mark .. marks, 1, MARKS * DIGITS))
announce(abacus)
return { ADDED, state(abacus), sequence }
