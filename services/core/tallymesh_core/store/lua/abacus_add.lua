-- Adds to abaci of one shard, one add after the other, each whole or not at all.
--
-- A limb only grows by what is added to it, so adds commute; its carry moves on to the next limb
-- when it reaches the limit, far below 2^52, where a Lua number would stop being exact.
--
-- KEYS[1]  prefix of the shard
-- ARGV[1]  limit of a limb: at least 10^9
-- ARGV[2…] for each add: abacus, memory, window in ms, id ("" for none), fingerprint of the request,
--          etag that the abacus is to have ("" for any), number of limbs, and for each limb its index and its value within ±(10^9 - 1)
-- RETURNS  for each add, two values: code, state
--          0 added                      the abacus just after
--          1 repeated: counted before   the abacus just after it was counted
--          2 the id stands for another request; nothing done   ""
--          3 the abacus has another etag; nothing done         the abacus as it is
local P = KEYS[1]
--!include clock
--!include abacus_memory
--!include abacus_state

local ADDED, REPEATED, REUSED, CHANGED = 0, 1, 2, 3
local BASE = 1e9
local limit = tonumber(ARGV[1])
local time = now()

local function turn(rods, index, value)
  while value ~= 0 do
    local limb = redis.call('HINCRBY', rods, index, value)
    value = 0
    if limb >= limit or limb <= -limit then
      value = (limb > 0 and math.floor or math.ceil)(limb / BASE)
      limb = redis.call('HINCRBY', rods, index, string.format('%d', -value * BASE))
    end
    if limb == 0 then redis.call('HDEL', rods, index) end
    index = index + 1
  end
end

local answers, changed, at = {}, {}, 2
while ARGV[at] do
  local abacus, memory, window, id, fingerprint, expected, limbs = unpack(ARGV, at, at + 6)
  local first = at + 7
  at = first + 2 * limbs
  window = tonumber(window)

  local code, after = ADDED, ''
  local record = id ~= '' and recall(abacus, memory, window, id, time)
  if not record and expected ~= '' and expected ~= etag(abacus) then
    code, after = CHANGED, state(abacus)
  elseif not record then
    local key = abacus_key(abacus)
    for limb = first, at - 1, 2 do
      turn(key, tonumber(ARGV[limb]), tonumber(ARGV[limb + 1]))
    end
    redis.call('HINCRBY', key, 'v', 1)
    redis.call('HINCRBY', key, 'n', 1)
    redis.call('HSET', key, 't', string.format('%d', time))
    after = state(abacus)
    if id ~= '' then remember(abacus, memory, window, id, time, fingerprint .. ' ' .. after) end
    changed[abacus] = true
  elseif string.sub(record, 1, #fingerprint) == fingerprint then
    code, after = REPEATED, string.sub(record, #fingerprint + 2)
  else
    code = REUSED
  end
  answers[#answers + 1] = code
  answers[#answers + 1] = after
end

for abacus in pairs(changed) do announce(abacus) end
return answers
