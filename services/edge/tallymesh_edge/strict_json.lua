-- Refuses a REST call whose body says what no field takes, and names streamed answers for what they are.
-- The transcoder passes over a misspelt field, and over a list where a text belongs: a limit or a condition
-- that is not read makes a call do more than was written. What is no JSON is left to the transcoder.
--
-- Before this stand BINDINGS, the methods by path, and MESSAGES, their fields (rest_bodies.py makes both).

local find, byte, sub = string.find, string.byte, string.sub
local QUOTE, OPEN_LIST, OPEN_OBJECT = 34, 91, 123

local function refuse(path, problem)
  error({said = (path == '' and 'the body' or path) .. ': ' .. problem}, 0)
end

-- Ends the walk: the transcoder says better what is wrong with text that is no JSON.
local function no_json()
  error({}, 0)
end

local function next_of(text, at)
  return find(text, '[^ \t\r\n]', at) or no_json()
end

-- Where a string ends that begins at a quote.
local function string_end(text, at)
  at = at + 1
  while true do
    local stop = find(text, '["\\]', at) or no_json()
    if byte(text, stop) == QUOTE then return stop end
    at = stop + 2
  end
end

-- Passes over any value, and returns the place after it.
local function skip(text, at)
  local depth = 0
  while true do
    local char = byte(text, at) or no_json()
    if char == QUOTE then
      at = string_end(text, at) + 1
    elseif char == OPEN_LIST or char == OPEN_OBJECT then
      depth, at = depth + 1, at + 1
    elseif char == 93 or char == 125 then -- ] and }
      depth, at = depth - 1, at + 1
    elseif depth == 0 then
      at = find(text, '[%s,%]}]', at) or #text + 1
    else
      at = find(text, '["%[%]{}]', at) or no_json()
    end
    if depth <= 0 then return at end
  end
end

-- Calls `member` for each place at which a member begins, which returns the place after it; returns the place
-- after the list or object.
local function each(text, at, close, member)
  at = next_of(text, at + 1)
  if sub(text, at, at) == close then return at + 1 end
  while true do
    at = next_of(text, member(at))
    local char = sub(text, at, at)
    if char == close then return at + 1 end
    if char ~= ',' then no_json() end
    at = next_of(text, at + 1)
  end
end

local walk

local function walk_object(text, at, kind_of, path)
  return each(text, at, '}', function(place)
    if byte(text, place) ~= QUOTE then no_json() end
    local stop = string_end(text, place)
    local key = sub(text, place + 1, stop - 1)
    place = next_of(text, stop + 1)
    if sub(text, place, place) ~= ':' then no_json() end
    local within = path == '' and key or path .. '.' .. key
    return walk(text, next_of(text, place + 1), kind_of(key, within), within)
  end)
end

-- Checks the value that begins at a place against what is expected there, and returns the place after it.
function walk(text, at, kind, path)
  local form, char = kind.form, byte(text, at)
  if form == 'any' then return skip(text, at) end
  if sub(text, at, at + 3) == 'null' then
    if kind.of_list then refuse(path, 'must not be null') end
    return at + 4
  end
  if form == 'value' then
    if char == OPEN_LIST or char == OPEN_OBJECT then
      refuse(path, 'must be a single value, not ' .. (char == OPEN_LIST and 'a list' or 'an object'))
    end
    return skip(text, at)
  end
  if form == 'list' then
    if char ~= OPEN_LIST then refuse(path, 'must be a list') end
    local index = -1
    return each(text, at, ']', function(place)
      index = index + 1
      return walk(text, place, kind.of, path .. '[' .. index .. ']')
    end)
  end
  if char ~= OPEN_OBJECT then refuse(path, 'must be an object') end
  if form == 'map' then
    return walk_object(text, at, function() return kind.of end, path)
  end
  local fields = MESSAGES[kind.name]
  return walk_object(text, at, function(key, within)
    if not fields.of[key] then refuse(within, 'no such field; there are ' .. fields.names) end
    return fields.of[key]
  end, path)
end

local function binding_of(headers)
  local verb, path = headers:get(':method'), string.match(headers:get(':path'), '^[^?]*')
  for _, binding in ipairs(BINDINGS) do
    if binding.verb == verb and find(path, binding.pattern) then return binding end
  end
end

function envoy_on_request(handle)
  local binding = binding_of(handle:headers())
  if not binding then return end
  if binding.streams then handle:streamInfo():dynamicMetadata():set('tallymesh', 'streams', true) end
  if not binding.body then return end
  local body = handle:body()
  if not body or body:length() == 0 then return end
  local text = body:getBytes(0, body:length())
  local is_right, problem = pcall(function() walk(text, next_of(text, 1), binding.body, binding.field) end)
  if is_right or not problem.said then return end
  handle:respond({[':status'] = '400'}, problem.said)
end

function envoy_on_response(handle)
  local kept = handle:streamInfo():dynamicMetadata():get('tallymesh')
  local headers = handle:headers()
  if kept and kept.streams and headers:get(':status') == '200'
    and headers:get('content-type') == 'application/json' then
    headers:replace('content-type', 'application/x-ndjson')
  end
end
