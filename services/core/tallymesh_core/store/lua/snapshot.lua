-- Reads a job as it stands at one moment.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 ref, 2 most cells of the chunk map, or 0 for none
-- RETURNS  {fields and values in turn, chunks running, workers that hold one, chunks retrying,
--          soonest retry in ms or '', sum of the fractions of running chunks as text, worker and
--          count in turn, chunks a cell, cells, now in ms, chunks given up, replays as replay.lua
--          writes them}
--          or {} where there is no such job
local P = KEYS[1]
--!include clock
local ref, most = ARGV[1], tonumber(ARGV[2])
local fields = redis.call('HGETALL', P .. 'job:' .. ref)
if #fields == 0 then return {} end
local job = {}
for i = 1, #fields, 2 do job[fields[i]] = fields[i + 1] end
local n = tonumber(job.n)

local leases = redis.call('HGETALL', P .. 'leases:' .. ref)
local owners, workers = {}, 0
for i = 2, #leases, 2 do
  local owner = string.match(leases[i], '^%S+')
  if not owners[owner] then owners[owner], workers = true, workers + 1 end
end
local share = 0
for _, fraction in ipairs(redis.call('HVALS', P .. 'fractions:' .. ref)) do
  share = share + tonumber(fraction)
end

local per_cell, cells = 0, {}
if most > 0 then
  per_cell = math.ceil(n / most)
  local count = math.ceil(n / per_cell)
  local full = tonumber(job.done) == n
  for cell = 1, count do
    local first = (cell - 1) * per_cell
    local last = math.min(first + per_cell, n) - 1
    local done = full and last - first + 1
      or redis.call('BITCOUNT', P .. 'bits:' .. ref, first, last, 'BIT')
    cells[cell] = math.floor(done * 100 / (last - first + 1))
  end
  for i = 1, #leases, 2 do
    local cell = math.floor(tonumber(leases[i]) / per_cell) + 1
    if cells[cell] and cells[cell] < 128 then cells[cell] = cells[cell] + 128 end
  end
  for cell = 1, count do cells[cell] = string.char(cells[cell]) end
end

local soonest = redis.call('ZRANGE', P .. 'later:' .. ref, 0, 0, 'WITHSCORES')[2]
return {fields, #leases / 2, workers, redis.call('ZCARD', P .. 'later:' .. ref), soonest or '',
  string.format('%.6f', share), redis.call('HGETALL', P .. 'by:' .. ref), per_cell,
  table.concat(cells), now(), redis.call('HLEN', P .. 'dead:' .. ref),
  tonumber(job.epoch) > 1 and redis.call('LRANGE', P .. 'replays:' .. ref, 0, -1) or {}}
