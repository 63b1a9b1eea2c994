-- Declares that an ensemble has all its jobs.
-- Invariant: only one that still takes jobs is sealed, by a client that knows how many it has; one that was
-- cancelled meanwhile stays cancelled.
-- ARGV: ensemble, number of its jobs. Returns its state and how many jobs it has.
local spec = ensemble(ARGV[1])
if not spec then return {'', 0} end
if spec.state == 'submitting' and spec.submitted == number_at(2) then
  write('HSET', ens_key(ARGV[1]), 'state', 'open', 'sealed', 1)
  spec.state = 'open'
end
flush()
return {spec.state, spec.submitted}
