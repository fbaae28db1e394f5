#!lua flags=allow-oom
-- Takes back chunks that a worker has not touched. No attempt is spent.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 worker uid, 2 msgpack of the chunks: {{ref, epoch, first, count, attempt}, …}
-- RETURNS  how many were taken back; what is not the worker's any more, or of an epoch that is over,
--          is passed over
local P = KEYS[1]
--!include job
local uid, taken = ARGV[1], 0
for _, range in ipairs(cmsgpack.unpack(ARGV[2])) do
  local ref, before = range[1], taken
  local is_current = tonumber(redis.call('HGET', P .. 'job:' .. ref, 'epoch')) == range[2]
  for index = range[3], range[3] + range[4] - 1 do
    local text = string.format('%d', index)
    local lease = is_current and redis.call('HGET', P .. 'leases:' .. ref, text)
    if lease and string.match(lease, '^%S+') == uid then
      end_lease(ref, text, uid)
      redis.call('ZADD', P .. 'again:' .. ref, text, text)
      taken = taken + 1
    end
  end
  if taken > before then make_ready(ref) end
end
return tell(taken)
