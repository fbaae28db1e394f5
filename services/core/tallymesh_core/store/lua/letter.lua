-- Dead letters: chunks given up. Needs `job`.
-- What a chunk died of stays with its job, `<group> <ms> <failed> <lost> <before> <epoch> <reason>
-- <worker or -> <message>`; the letter itself is its place in the group of its kind of error.

-- Takes a chunk's letter out of its group, if it is there, and answers whether it was.
local function drop_letter(ref, index)
  local facts = redis.call('HGET', P .. 'dead:' .. ref, index)
  if not facts then return false end
  local tenant, id = string.match(ref, '^([^/]+)/(.+)$')
  local group = string.match(facts, '^%S+')
  local letters, groups = P .. 'letters:' .. tenant .. '/' .. group, P .. 'groups:' .. tenant
  if redis.call('ZREM', letters, id .. ' ' .. index) == 0 then return false end
  local newest = redis.call('ZRANGE', letters, -1, -1, 'WITHSCORES')[2]
  if newest then
    redis.call('ZADD', groups, newest, group)
  else
    redis.call('DEL', P .. 'group:' .. tenant .. '/' .. group)
    redis.call('ZREM', groups, group)
  end
  return true
end

-- Gives a chunk up, and its job with it unless that tolerates it and can go on.
local function give_up(ref, index, ms, reason, worker, message)
  local key = P .. 'job:' .. ref
  local tenant, id = string.match(ref, '^([^/]+)/(.+)$')
  local job = redis.call('HMGET', key, 'state', 'n', 'done', 'tolerate', 'kernel', 'epoch',
    'additive')
  local failed, lost, before = tries_of(ref, index)
  redis.call('HDEL', P .. 'tries:' .. ref, index)
  -- Numbers differ from case to case of one kind of error.
  local kind = string.gsub(message, '%d+', '#')
  local group = string.sub(redis.sha1hex(job[5] .. '\n' .. reason .. '\n' .. kind), 1, 12)
  local stamp = string.format('%d', ms)
  redis.call('HSET', P .. 'dead:' .. ref, index, table.concat({group, stamp, failed, lost, before,
    job[6], reason, worker == '' and '-' or worker, message}, ' '))
  redis.call('HSET', P .. 'group:' .. tenant .. '/' .. group,
    'kernel', job[5], 'reason', reason, 'message', message)
  redis.call('ZADD', P .. 'letters:' .. tenant .. '/' .. group, stamp, id .. ' ' .. index)
  redis.call('ZADD', P .. 'groups:' .. tenant, stamp, group)

  local chunk, n, done = tonumber(index), tonumber(job[2]), tonumber(job[3])
  local dead = redis.call('HLEN', P .. 'dead:' .. ref)
  if reason == 'WORK_REFUSED' or chunk == n or dead > tonumber(job[4]) or dead == n then
    fail_job(ref, job[1], ms, reason, chunk, worker, message)
  elseif done + dead == n then
    conclude(ref, job[1], ms, job[7] == '1')
  else
    emit(ref, 'failed')
  end
end

-- Lets a chunk that was given up be leased again, as if it had never been tried.
local function revive(ref, index)
  local failed, lost, before = string.match(redis.call('HGET', P .. 'dead:' .. ref, index),
    '^%S+ %S+ (%d+) (%d+) (%d+) ')
  drop_letter(ref, index)
  redis.call('HDEL', P .. 'dead:' .. ref, index)
  redis.call('HINCRBY', P .. 'replayed:' .. ref, index, 1)
  set_tries(ref, index, 0, 0, tonumber(failed) + tonumber(lost) + tonumber(before))
  redis.call('ZADD', P .. 'again:' .. ref, index, index)
end
