-- Rods of an abacus are added to one by one. A limb only grows by what is added to it, so adds commute;
-- its carry moves on to the next limb when it reaches the limit, far below 2^52, where a Lua number
-- would stop being exact.
local BASE = 1e9

local function turn(rods, index, value, limit)
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

-- Adds the limbs that stand in ARGV from `first` to `last`: for each its index and its value within
-- ±(10^9 - 1).
local function turn_all(abacus, first, last, limit)
  local rods = abacus_key(abacus)
  for at = first, last, 2 do turn(rods, tonumber(ARGV[at]), tonumber(ARGV[at + 1]), limit) end
end
