-- Declares that an ensemble has all its jobs.
-- Invariant: only one that still takes jobs is sealed; one that was cancelled meanwhile stays cancelled.
-- ARGV: ensemble. Returns its state.
local key = ens_key(ARGV[1])
if redis.call('HGET', key, 'state') == 'submitting' then
  redis.call('HSET', key, 'state', 'open', 'sealed', 1)
end
return redis.call('HGET', key, 'state')
