#!lua flags=allow-oom
-- Fails the jobs whose time is over.
--
-- KEYS     1 prefix of the shard's keys
-- ARGV     1 most jobs to look at
-- RETURNS  milliseconds until the next such time, or -1 when there is none
local P = KEYS[1]
--!include clock
--!include job
local ms = now()
local due = redis.call('ZRANGEBYSCORE', P .. 'deadlines', '-inf', string.format('%d', ms), 'LIMIT', 0, ARGV[1])
for _, ref in ipairs(due) do
  local job = redis.call('HMGET', P .. 'job:' .. ref, 'state', 'timeout')
  fail_job(ref, job[1], ms, 'JOB_TIMED_OUT', -1, '',
    string.format('the job did not end within its timeout, %s s',
      string.gsub(string.format('%.3f', tonumber(job[2]) / 1000), '%.?0+$', '')))
end
local next_ = redis.call('ZRANGE', P .. 'deadlines', 0, 0, 'WITHSCORES')[2]
return tell(next_ and math.max(0, tonumber(next_) - ms) or -1)
