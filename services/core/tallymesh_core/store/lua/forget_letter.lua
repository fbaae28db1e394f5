#!lua flags=allow-oom
-- Forgets dead letters of a job; what its chunks died of stays with the job.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 ref, 2 … the chunks
-- RETURNS  how many were forgotten
local P = KEYS[1]
--!include job
--!include letter
local ref = table.remove(ARGV, 1)
return drop_letters(ref, ARGV)
