-- Declares that an ensemble has all its jobs.
-- Invariant: only one that still takes jobs is sealed, by a client that knows how many it has; one that was
-- cancelled meanwhile stays cancelled.
-- ARGV: ensemble, number of its jobs. Returns its state and how many jobs it has.
local key = ens_key(ARGV[1])
local spec = hash(key, 'state', 'submitted')
if spec.state == 'submitting' and spec.submitted == ARGV[2] then
  redis.call('HSET', key, 'state', 'open', 'sealed', 1)
  spec.state = 'open'
end
return {spec.state or '', tonumber(spec.submitted or 0)}
