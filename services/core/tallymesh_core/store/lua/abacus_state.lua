-- An abacus is one hash: `v` version, `n` adds since the last reset, `t` time of the last change in
-- ms, and its rods: under the index i, positive or negative, how many times 10^(9 i) is in the sum.
-- Beside it stands its ledger, a stream of entries under the etag that each led to. A set of the
-- tenant's names tells which abaci there are.

local function abacus_key(abacus)
  return P .. 'abacus:' .. abacus
end

local function ledger_key(abacus)
  return P .. 'abacus-ledger:' .. abacus
end

-- Returns the key of the tenant's set of names, and the abacus's name in it.
local function place(abacus)
  local tenant, name = string.match(abacus, '^(.*)/(.*)$')
  return P .. 'abaci:' .. tenant, name
end

-- Returns all of it in one text: field, value, field, value, …, separated by spaces.
local function state(abacus)
  return table.concat(redis.call('HGETALL', abacus_key(abacus)), ' ')
end

-- Returns what stands for the state as it is now, as sums.py makes it of a sum.
local function etag(abacus)
  local facts = redis.call('HMGET', abacus_key(abacus), 'v', 't')
  return (facts[1] or '0') .. '-' .. (facts[2] or '0')
end

-- Notes a change: how many adds it is, its time, and its entry in the ledger, which holds about the last
-- `kept`. Further fields of the entry may follow.
local function advance(abacus, adds, time, kept, entry, ...)
  local key = abacus_key(abacus)
  local facts = redis.call('HMGET', key, 'v', 'n')
  local version = facts[1]
  if not version then
    local set, name = place(abacus)
    redis.call('ZADD', set, 0, name)
    -- So that one that is deleted and comes again has no version twice.
    version = redis.call('GET', P .. 'abacus-versions') or 0
  end
  version = string.format('%d', version + 1)
  local at = string.format('%d', time)
  redis.call('HSET', key, 'v', version, 'n', string.format('%d', (facts[2] or 0) + adds), 't', at)
  redis.call('XADD', ledger_key(abacus), 'MAXLEN', '~', kept, version .. '-' .. at,
    'entry', entry, ...)
end

-- Tells the watchers. The event is only a signal: they read the sum themselves.
local function announce(abacus)
  redis.call('XADD', P .. 'abacus-events', 'MAXLEN', '~', 10000, '*', 'abacus', abacus)
end
