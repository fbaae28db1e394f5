-- Adds to abaci of one shard, one add after the other, each whole or not at all.
--
-- KEYS[1]  prefix of the shard
-- ARGV[1]  limit of a limb: at least 10^9
-- ARGV[2]  how many entries a ledger keeps
-- ARGV[3…] for each add: seven of its id (abacus_memory), entry in the ledger, etag that the abacus is to
--          have ("" for any), number of limbs, and for each limb its index and its value
-- RETURNS  for each add, two values: code, state
--          0 added                      the abacus just after
--          1 repeated: counted before   the abacus just after it was counted, or where that was long, as it is now
--          2 the id stands for another request; nothing done   ""
--          3 the abacus has another etag; nothing done         the abacus as it is
--          4 the id may have been forgotten; nothing done      ""
local P = KEYS[1]
--!include clock
--!include abacus_memory
--!include abacus_state
--!include abacus_rods

local ADDED, REPEATED, REUSED, CHANGED, FORGOTTEN = 0, 1, 2, 3, 4
-- The longest state that is remembered under an id, in bytes: a million ids have a bound, whatever the digits.
local SHORT = 160
local limit, kept = tonumber(ARGV[1]), ARGV[2]
local time = now()

local answers, changed, at = {}, {}, 3
while ARGV[at] do
  local abacus, once = ARGV[at], read_once(at)
  local entry, expected, limbs = unpack(ARGV, at + 7, at + 9)
  local first = at + 10
  at = first + 2 * limbs

  local code, after = ADDED, ''
  local record = recall(once)
  if record then
    if string.sub(record, 1, #once.fingerprint) == once.fingerprint then
      code, after = REPEATED, string.sub(record, #once.fingerprint + 2)
      if after == '' then after = state(abacus) end
    else
      code = REUSED
    end
  elseif is_forgotten(once, time) then
    code = FORGOTTEN
  elseif expected ~= '' and expected ~= etag(abacus) then
    code, after = CHANGED, state(abacus)
  else
    turn_all(abacus, first, at - 1, limit)
    advance(abacus, 1, time, kept, entry)
    after = state(abacus)
    remember(once, time, once.fingerprint .. ' ' .. (#after <= SHORT and after or ''))
    changed[abacus] = true
  end
  answers[#answers + 1] = code
  answers[#answers + 1] = after
end

for abacus in pairs(changed) do announce(abacus) end
return answers
