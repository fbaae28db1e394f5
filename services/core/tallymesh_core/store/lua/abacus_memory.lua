-- What was answered under an id, so that a repeat counts nothing. A memory is named, and kept in
-- buckets of `window` ms: with the current bucket and the one before it, an answer is remembered
-- for at least one window and is gone after two.
local function bucket(abacus, memory, number)
  return string.format('%sabacus:%s:%s:%d', P, abacus, memory, number)
end

-- Returns the record under the id, or false.
local function recall(abacus, memory, window, id, time)
  local number = math.floor(time / window)
  return redis.call('HGET', bucket(abacus, memory, number), id)
    or redis.call('HGET', bucket(abacus, memory, number - 1), id)
end

local function remember(abacus, memory, window, id, time, record)
  local number = math.floor(time / window)
  local key = bucket(abacus, memory, number)
  redis.call('HSET', key, id, record)
  if redis.call('HLEN', key) == 1 then
    redis.call('PEXPIREAT', key, string.format('%d', (number + 2) * window))
  end
end
