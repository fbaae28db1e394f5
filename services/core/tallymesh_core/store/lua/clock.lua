-- The shard's clock in milliseconds: the server's, but never going back, whatever happens to that. A full
-- store does not keep it, but who only reads is answered; who writes is refused by the next write.
local function now()
  local time = redis.call('TIME')
  local ms = time[1] * 1000 + math.floor(time[2] / 1000)
  local last = tonumber(redis.call('GET', P .. 'clock') or 0)
  if ms <= last then return last end
  local kept = redis.pcall('SET', P .. 'clock', string.format('%d', ms))
  if kept.err and not string.find(kept.err, '^%-?OOM') then error(kept) end
  return ms
end
