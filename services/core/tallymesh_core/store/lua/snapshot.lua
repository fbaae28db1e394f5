-- Reads jobs as they stand at one moment, but for their works and results.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 most cells of a chunk map, or 0 for none, 2 '1' to read ended jobs only, 3 how many fields
--          of a job are asked for, 4 … these (state, epoch, n, done and end, then any), then refs
-- RETURNS  for each ref {its fields, its spec as specs.py packs it, now in ms, chunks running, workers that
--          hold one, chunks retrying, soonest retry in ms or '', sum of the fractions of running chunks as
--          text, worker and count in turn, chunks given up, replays as replay.lua writes them, bits of
--          counted chunks or '', cells of the map in which chunks run}, or {} where there is no such job,
--          or {''} where it has not ended and only ended ones are to be read
local P = KEYS[1]
--!include clock
local most, count = tonumber(ARGV[1]), tonumber(ARGV[3])
local ms = now()
local fields = {unpack(ARGV, 4, 3 + count)}

local function read(ref)
  local job = redis.call('HMGET', P .. 'job:' .. ref, unpack(fields))
  local state, epoch, n, done, alone = unpack(job, 1, 5)
  if not state then return {} end
  local has_ended = state ~= 'PENDING' and state ~= 'RUNNING'
  if ARGV[2] == '1' and not has_ended then return {''} end
  local spec = redis.call('HGET', P .. 'job:' .. ref, 'spec') or redis.call('GET', P .. 'spec:' .. ref)
  local answer = {job, spec, ms, 0, 0, 0, '', '0', {}, 0, {}, '', {}}
  if epoch ~= '1' then answer[11] = redis.call('LRANGE', P .. 'replays:' .. ref, 0, -1) end
  -- Of one that ended with its one chunk nothing more is kept.
  if alone then return answer end

  if not has_ended then
    local leases = redis.call('HGETALL', P .. 'leases:' .. ref)
    local holders, workers, per_cell, cells, share = {}, 0, math.ceil(n / math.max(most, 1)), {}, 0
    for i = 1, #leases, 2 do
      local owner = string.match(leases[i + 1], '^%S+')
      if not holders[owner] then holders[owner], workers = true, workers + 1 end
      if most > 0 then cells[math.floor(leases[i] / per_cell)] = true end
    end
    for _, fraction in ipairs(redis.call('HVALS', P .. 'fractions:' .. ref)) do
      share = share + tonumber(fraction)
    end
    answer[4], answer[5] = #leases / 2, workers
    answer[6] = redis.call('ZCARD', P .. 'later:' .. ref)
    answer[7] = redis.call('ZRANGE', P .. 'later:' .. ref, 0, 0, 'WITHSCORES')[2] or ''
    answer[8] = string.format('%.6f', share)
    for cell in pairs(cells) do table.insert(answer[13], cell) end
  end
  answer[9] = redis.call('HGETALL', P .. 'by:' .. ref)
  answer[10] = redis.call('HLEN', P .. 'dead:' .. ref)
  -- Of a job that has none or all of its chunks counted they are known.
  if most > 0 and done ~= '0' and done ~= n then
    answer[12] = redis.call('GETRANGE', P .. 'bits:' .. ref, 0, -1)
  end
  return answer
end

local answer = {}
for i = 4 + count, #ARGV do answer[#answer + 1] = read(ARGV[i]) end
return answer
