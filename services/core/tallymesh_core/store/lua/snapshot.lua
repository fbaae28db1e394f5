-- Reads jobs as they stand at one moment.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 most cells of a chunk map, or 0 for none, 2 '1' to read ended jobs only, 3 … refs
-- RETURNS  for each ref {fields and values in turn, chunks running, workers that hold one, chunks
--          retrying, soonest retry in ms or '', sum of the fractions of running chunks as text, worker
--          and count in turn, chunks a cell, cells, now in ms, chunks given up, replays as replay.lua
--          writes them}, or {} where there is no such job, or {''} where it has not ended and only
--          ended ones are to be read
local P = KEYS[1]
--!include clock
local most = tonumber(ARGV[1])
local ms = now()

-- Draws the map of a job's chunks: how many a cell stands for, and the cells.
local function map_of(ref, n, done, leases)
  local per_cell, cells = math.ceil(n / most), {}
  local count = math.ceil(n / per_cell)
  for cell = 1, count do
    local first = (cell - 1) * per_cell
    local last = math.min(first + per_cell, n) - 1
    local part = done == n and last - first + 1
      or redis.call('BITCOUNT', P .. 'bits:' .. ref, first, last, 'BIT')
    cells[cell] = math.floor(part * 100 / (last - first + 1))
  end
  for i = 1, #leases, 2 do
    local cell = math.floor(tonumber(leases[i]) / per_cell) + 1
    if cells[cell] and cells[cell] < 128 then cells[cell] = cells[cell] + 128 end
  end
  for cell = 1, count do cells[cell] = string.char(cells[cell]) end
  return per_cell, table.concat(cells)
end

local function read(ref)
  if ARGV[2] == '1' then
    local state = redis.call('HGET', P .. 'job:' .. ref, 'state')
    if state == 'PENDING' or state == 'RUNNING' then return {''} end
  end
  local fields = redis.call('HGETALL', P .. 'job:' .. ref)
  if #fields == 0 then return {} end
  local job = {}
  for i = 1, #fields, 2 do job[fields[i]] = fields[i + 1] end

  local leases, retrying, soonest, share, workers = {}, 0, '', 0, 0
  if not job.ended then
    leases = redis.call('HGETALL', P .. 'leases:' .. ref)
    retrying = redis.call('ZCARD', P .. 'later:' .. ref)
    soonest = redis.call('ZRANGE', P .. 'later:' .. ref, 0, 0, 'WITHSCORES')[2] or ''
    for _, fraction in ipairs(redis.call('HVALS', P .. 'fractions:' .. ref)) do
      share = share + tonumber(fraction)
    end
  end
  local owners = {}
  for i = 2, #leases, 2 do
    local owner = string.match(leases[i], '^%S+')
    if not owners[owner] then owners[owner], workers = true, workers + 1 end
  end
  local per_cell, cells = 0, ''
  if most > 0 then per_cell, cells = map_of(ref, tonumber(job.n), tonumber(job.done), leases) end
  return {fields, #leases / 2, workers, retrying, soonest, string.format('%.6f', share),
    redis.call('HGETALL', P .. 'by:' .. ref), per_cell, cells, ms,
    redis.call('HLEN', P .. 'dead:' .. ref),
    tonumber(job.epoch) > 1 and redis.call('LRANGE', P .. 'replays:' .. ref, 0, -1) or {}}
end

local answer = {}
for i = 3, #ARGV do answer[i - 2] = read(ARGV[i]) end
return answer
