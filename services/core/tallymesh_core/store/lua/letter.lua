-- Dead letters: chunks given up. Needs `job`.
-- What a chunk died of stays with its job, `<group> <ms> <failed> <lost> <before> <epoch> <reason>
-- <worker or -> <message>`; the letter itself is its place in the group of its kind of error.

-- Takes the letters of chunks out of their groups, and answers how many were there.
local function drop_letters(ref, chunks)
  local tenant, id = string.match(ref, '^([^/]+)/(.+)$')
  local members = {}
  for i, facts in ipairs(get_many(P .. 'dead:' .. ref, chunks)) do
    local group = string.match(facts or '', '^%S+')
    if group then
      members[group] = members[group] or {}
      table.insert(members[group], id .. ' ' .. chunks[i])
    end
  end
  local dropped = 0
  for group, some in pairs(members) do
    local letters, groups = P .. 'letters:' .. tenant .. '/' .. group, P .. 'groups:' .. tenant
    dropped = dropped + call_many('ZREM', letters, some)
    local newest = redis.call('ZRANGE', letters, -1, -1, 'WITHSCORES')[2]
    if newest then
      redis.call('ZADD', groups, newest, group)
    else
      redis.call('DEL', P .. 'group:' .. tenant .. '/' .. group)
      redis.call('ZREM', groups, group)
    end
  end
  return dropped
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

-- Lets chunks that were given up be leased again, as if they had never been tried.
local function revive(ref, chunks)
  local tries, again = {}, {}
  for i, facts in ipairs(get_many(P .. 'dead:' .. ref, chunks)) do
    local failed, lost, before = string.match(facts, '^%S+ %S+ (%d+) (%d+) (%d+) ')
    tries[2 * i - 1] = chunks[i]
    tries[2 * i] = pack_tries(0, 0, failed + lost + before)
    again[2 * i - 1], again[2 * i] = chunks[i], chunks[i]
    redis.call('HINCRBY', P .. 'replayed:' .. ref, chunks[i], 1)
  end
  drop_letters(ref, chunks)
  call_many('HDEL', P .. 'dead:' .. ref, chunks)
  call_many('HSET', P .. 'tries:' .. ref, tries)
  call_many('ZADD', P .. 'again:' .. ref, again)
end
