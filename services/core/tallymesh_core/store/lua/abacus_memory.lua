-- What was answered under an id, so that a repeat counts nothing.
--
-- A memory is named, and kept in buckets: hashes from id to record, each known by the time in ms at
-- which it began. A new one begins when the current one is a window old or holds `most` ids; only the
-- current one and the one before it are kept. So an id is remembered for at least a window, or until
-- `most` others have come after it.
--
-- An id may tell when it was made. One that is not remembered, though it was made before what may have
-- been forgotten, is itself forgotten: whether it was counted cannot be known. For that, a bucket holds
-- under '' the latest time that an id of it told, and the head beside the buckets the latest that went
-- with a bucket: the horizon.

-- By so much the clocks of those who make ids may be ahead of this one. An id further ahead tells no
-- time. (In so short a time no `most` ids come: else one clock ahead would make a horizon ahead of all.)
local SLACK = 10000

-- Reads an id, and what goes with it, from seven arguments: abacus, memory, window in ms, most, id ("" for
-- none), when it was made in ms (0 if it does not tell), fingerprint of the request.
local function read_once(at)
  return {
    key = P .. 'abacus:' .. ARGV[at] .. ':' .. ARGV[at + 1],
    window = tonumber(ARGV[at + 2]),
    most = tonumber(ARGV[at + 3]),
    id = ARGV[at + 4],
    made = tonumber(ARGV[at + 5]),
    fingerprint = ARGV[at + 6],
    current = '0',
    before = '0',
    horizon = 0,
    latest = 0,
  }
end

local function bucket(once, began)
  return once.key .. ':' .. began
end

-- Returns the record under the id, or nil.
local function recall(once)
  local head = once.id ~= '' and redis.call('GET', once.key)
  if not head then return nil end
  local current, before, horizon = string.match(head, '^(%d+) (%d+) (%d+)$')
  once.current, once.before, once.horizon = current, before, tonumber(horizon)
  local found = redis.call('HMGET', bucket(once, current), once.id, '')
  once.latest = tonumber(found[2] or 0)
  return found[1] or before ~= '0' and redis.call('HGET', bucket(once, before), once.id) or nil
end

-- Tells whether an id of which there is no record may have been forgotten.
local function is_forgotten(once, time)
  return once.made > 0 and once.made <= time + SLACK
    and (once.made < time - once.window or once.made <= once.horizon)
end

-- Keeps a record under the id, in the place of an earlier one.
local function remember(once, time, record)
  if once.id == '' then return end
  local life = once.window + SLACK
  local current = tonumber(once.current)
  local is_new = time >= current + life
    or redis.call('HLEN', bucket(once, once.current)) >= once.most
  if is_new then
    if once.before ~= '0' then
      local last = bucket(once, once.before)
      once.horizon = math.max(once.horizon, tonumber(redis.call('HGET', last, '') or 0))
      redis.call('UNLINK', last)
    end
    once.before, once.current, once.latest =
      once.current, string.format('%d', math.max(time, current + 1)), 0
    redis.call('SET', once.key,
      once.current .. ' ' .. once.before .. ' ' .. string.format('%d', once.horizon),
      'PXAT', string.format('%d', once.current + 2 * life))
  end
  local key = bucket(once, once.current)
  if once.made > once.latest and once.made <= time + SLACK then
    redis.call('HSET', key, once.id, record, '', string.format('%d', once.made))
  else
    redis.call('HSET', key, once.id, record)
  end
  if is_new then redis.call('PEXPIREAT', key, string.format('%d', once.current + 2 * life)) end
end
