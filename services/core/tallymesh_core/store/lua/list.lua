-- Finds jobs, newest first: the next of those that are wanted.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 tenant, 2 most jobs to find, 3 most jobs to look at, 4 ids from which to go on, and at which
--          to end, as ZREVRANGEBYLEX takes them, 5 …, 6 msgpack of what is wanted: {states, queue or '',
--          kernel or '', {label: value, …}, created at or after in ms, created before in ms or 0}
-- RETURNS  {ids, the last id looked at, or '' when there are no more}
local P = KEYS[1]
--!include spec
local tenant, limit, left, highest, lowest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local states, queue, kernel, labels, from, before = unpack(cmsgpack.unpack(ARGV[6]))
local BATCH = 200

-- The sets to look through, one of each state: of jobs that have the rarest of the labels, if any is
-- wanted, else of all.
local function keys_of(label)
  local keys, size = {}, 0
  for i, state in ipairs(states) do
    keys[i] = label and P .. 'label:' .. tenant .. ':' .. state .. ':' .. label
      or P .. 'state:' .. tenant .. ':' .. state
    if label then size = size + redis.call('ZCARD', keys[i]) end
  end
  return keys, size
end

local keys, least, indexed = keys_of(nil), math.huge, nil
for name, value in pairs(labels) do
  local some, size = keys_of(name .. '=' .. value)
  if size < least then keys, least, indexed = some, size, name end
end
if indexed then labels[indexed] = nil end
local asks_spec, asks_time = queue ~= '' or kernel ~= '' or next(labels), from > 0 or before > 0

local function is_wanted(id)
  local ref = tenant .. '/' .. id
  if asks_time then
    local created = tonumber(redis.call('HGET', P .. 'job:' .. ref, 'created'))
    if created < from or (before > 0 and created >= before) then return false end
  end
  if not asks_spec then return true end
  local spec = spec_of(ref)
  if queue ~= '' and spec[QUEUE] ~= queue then return false end
  if kernel ~= '' and spec[KERNEL] ~= kernel
    and string.sub(spec[KERNEL], 1, #kernel + 1) ~= kernel .. '.' then return false end
  for name, value in pairs(labels) do
    if (spec[LABELS] or {})[name] ~= value then return false end
  end
  return true
end

-- The next ids of each set, read some at a time.
local sources = {}
for i, key in ipairs(keys) do sources[i] = {key = key, highest = highest, ids = {}, at = 1} end

local function head_of(source)
  if not source.ids[source.at] and source.highest then
    local size = math.min(BATCH, asks_spec and BATCH or limit)
    source.ids = redis.call('ZREVRANGEBYLEX', source.key, source.highest, lowest, 'LIMIT', 0, size)
    source.at = 1
    source.highest = #source.ids == size and '(' .. source.ids[size] or nil
  end
  return source.ids[source.at]
end

local found, last = {}, ''
while #found < limit and left > 0 do
  local newest, id
  for _, source in ipairs(sources) do
    local head = head_of(source)
    if head and (not id or head > id) then newest, id = source, head end
  end
  if not id then return {found, ''} end
  newest.at = newest.at + 1
  left, last = left - 1, id
  if is_wanted(id) then found[#found + 1] = id end
end
return {found, last}
