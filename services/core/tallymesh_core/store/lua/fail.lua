#!lua flags=allow-oom
-- Notes failed attempts: the chunk is tried again later, or given up. Only the current lease may
-- fail a chunk, so a repeat does nothing.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 worker uid, 2 worker name, 3 milliseconds before the second attempt (doubled for each
--          further one), 4 most milliseconds between attempts, 5 factor that spreads them, around 1,
--          6 msgpack of the failures: {{ref, epoch, index, attempt, reason, message}, …}
-- RETURNS  {how many were noted, milliseconds until the earliest next attempt or -1}
local P = KEYS[1]
--!include clock
--!include job
--!include letter
local uid, worker = ARGV[1], ARGV[2]
local base, most, spread = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local ms, noted, soonest = now(), 0, -1
for _, failure in ipairs(cmsgpack.unpack(ARGV[6])) do
  local ref, epoch, attempt = failure[1], failure[2], failure[4]
  local index = string.format('%d', failure[3])
  local key = P .. 'job:' .. ref
  local job = redis.call('HMGET', key, 'epoch', 'max_attempts')
  local lease = redis.call('HGET', P .. 'leases:' .. ref, index)
  local owner, tried = string.match(lease or '', '^(%S+) %S+ (%d+)')
  if owner == uid and tonumber(tried) == attempt and tonumber(job[1]) == epoch then
    noted = noted + 1
    end_lease(ref, index, uid)
    local failed, lost, before = tries_of(ref, index)
    failed = failed + 1
    set_tries(ref, index, failed, lost, before)
    redis.call('HINCRBY', key, 'failed', 1)
    if failure[5] == 'WORK_REFUSED' or failed >= tonumber(job[2]) then
      give_up(ref, index, ms, failure[5], worker, failure[6])
    else
      local delay = math.floor(math.min(most, base * 2 ^ (failed - 1)) * spread)
      redis.call('ZADD', P .. 'later:' .. ref, string.format('%d', ms + delay), index)
      local due = redis.call('ZRANGE', P .. 'later:' .. ref, 0, 0, 'WITHSCORES')[2]
      redis.call('ZADD', P .. 'delayed', due, ref)
      if soonest < 0 or delay < soonest then soonest = delay end
      emit(ref, 'retrying')
    end
  end
end
return tell({noted, soonest})
