#!lua flags=allow-oom
-- Lays out a store that is new or has lost everything, and tells how the store is laid out.
--
-- KEYS     1 the key of the layout
-- ARGV     1 version of the layout, 2 number of shards, 3 an id for it
-- RETURNS  {version, number of shards, id}
for i, field in ipairs({'schema', 'shards', 'id'}) do
  redis.call('HSETNX', KEYS[1], field, ARGV[i])
end
return redis.call('HMGET', KEYS[1], 'schema', 'shards', 'id')
