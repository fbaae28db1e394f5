-- An abacus is one hash: `v` version, `n` adds since the last reset, `t` time of the last change in
-- ms, and its rods: under the index i, positive or negative, how many times 10^(9 i) is in the sum.

local function abacus_key(abacus)
  return P .. 'abacus:' .. abacus
end

-- Returns all of it in one text: field, value, field, value, …, separated by spaces.
local function state(abacus)
  return table.concat(redis.call('HGETALL', abacus_key(abacus)), ' ')
end

-- Returns what stands for the state as it is now, as abaci.py makes it of a sum.
local function etag(abacus)
  local facts = redis.call('HMGET', abacus_key(abacus), 'v', 't')
  return (facts[1] or '0') .. '-' .. (facts[2] or '0')
end

-- Tells the watchers. The event is only a signal: they read the sum themselves.
local function announce(abacus)
  redis.call('XADD', P .. 'abacus-events', 'MAXLEN', '~', 10000, '*', 'abacus', abacus)
end
