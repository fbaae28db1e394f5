-- What never changes of a job: a list in this order, as specs.py packs it, of which the end may be left
-- out. Needs P.
local QUEUE, KERNEL, COUNT, ADDITIVE, PRIORITY, MAX_ATTEMPTS = 1, 2, 3, 4, 5, 6
local TTL, ABACUS, LABELS, TOLERATE, TIMEOUT = 9, 10, 11, 12, 14
local USUAL_TTL = 7 * 24 * 3600 * 1000

-- Values of at most so many bytes stand in the job's hash, where they take little room; a longer one would
-- make the whole hash grow, and has a key of its own.
local SHORT = 64

local function spec_of(ref)
  return cmsgpack.unpack(redis.call('HGET', P .. 'job:' .. ref, 'spec')
    or redis.call('GET', P .. 'spec:' .. ref))
end
