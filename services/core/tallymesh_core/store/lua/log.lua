#!lua flags=allow-oom
-- Keeps what attempts at chunks have logged: of each chunk the text of its last attempt, of each job so
-- much and no more.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 worker name, 2 most bytes of a job, 3 bytes beyond which only failed attempts are kept,
--          4 msgpack of the logs: {{ref, epoch, index, attempt, text, 1 if the attempt failed, else 0}, …}
-- RETURNS  how many were kept
local P = KEYS[1]
--!include clock
local worker, most, most_passed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local stamp, done = string.format('%d', now()), 0
for _, log in ipairs(cmsgpack.unpack(ARGV[4])) do
  local ref, epoch, attempt = log[1], log[2], log[4]
  local index = string.format('%d', log[3])
  local key, logs = P .. 'job:' .. ref, P .. 'logs:' .. ref
  local job = redis.call('HMGET', key, 'epoch', 'n', 'logged', 'unlogged')
  local before = redis.call('HGET', logs, index)
  local old_epoch, old_attempt = string.match(before or '0 0 ', '^(%d+) (%d+) ')
  old_epoch, old_attempt = tonumber(old_epoch), tonumber(old_attempt)
  -- Of a later attempt, or this one's, by a call that is repeated.
  local is_known = before and (old_epoch > epoch or (old_epoch == epoch and old_attempt >= attempt))
  if job[1] and epoch <= tonumber(job[1]) and log[3] <= tonumber(job[2]) and not is_known then
    local entry = string.format('%d %d %s %s ', epoch, attempt, stamp, worker) .. log[5]
    local grown = #entry - #(before or '')
    if tonumber(job[3] or 0) + grown > (log[6] == 1 and most or most_passed) then
      -- A call that is repeated drops its logs again: each chunk counts once.
      if redis.call('SETBIT', P .. 'unlogged:' .. ref, index, 1) == 0 then
        redis.call('HINCRBY', key, 'unlogged', 1)
      end
    else
      if job[4] and redis.call('SETBIT', P .. 'unlogged:' .. ref, index, 0) == 1 then
        redis.call('HINCRBY', key, 'unlogged', -1)
      end
      redis.call('HSET', logs, index, entry)
      redis.call('HINCRBY', key, 'logged', grown)
      done = done + 1
    end
  end
end
return done
