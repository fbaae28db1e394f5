-- Forgets dead letters of a job; what its chunks died of stays with the job.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 ref, 2 … the chunks
-- RETURNS  how many were forgotten
local P = KEYS[1]
--!include job
--!include letter
local forgotten = 0
for i = 2, #ARGV do
  if drop_letter(ARGV[1], ARGV[i]) then forgotten = forgotten + 1 end
end
return forgotten
