-- Lets chunks of a running job that were given up be leased again.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 ref, 2 … the chunks
-- RETURNS  how many run again: none unless the job has chunks left to do, besides its last step
local P = KEYS[1]
--!include clock
--!include job
--!include letter
local ref, dead = ARGV[1], {}
local job = redis.call('HMGET', P .. 'job:' .. ref, 'state', 'n', 'done')
if not job[1] or is_final(job[1]) then return 0 end
if tonumber(job[3]) + redis.call('HLEN', P .. 'dead:' .. ref) == tonumber(job[2]) then return 0 end
for i = 2, #ARGV do
  if redis.call('HEXISTS', P .. 'dead:' .. ref, ARGV[i]) == 1 then
    dead[#dead + 1] = ARGV[i]
  end
end
revive(ref, dead)
if dead[1] then make_ready(ref, true) end
return tell(#dead)
