-- The shard's clock in milliseconds: the server's, but never going back, whatever happens to that.
local function now()
  local time = redis.call('TIME')
  local ms = time[1] * 1000 + math.floor(time[2] / 1000)
  local last = tonumber(redis.call('GET', P .. 'clock') or 0)
  if ms <= last then return last end
  redis.call('SET', P .. 'clock', string.format('%d', ms))
  return ms
end
