-- Lets an ensemble's jobs that have not started run on another payload; one that failed as a whole goes on.
-- Invariant: a claim names the payload that its ensemble has at that moment, and an ensemble fails as a whole only
-- for the payload that it still has (close.lua). So a worker that finds the old one broken ends nothing afterwards.
-- Jobs that failed with the whole ensemble, or all that failed, are queued again by the caller (retry.lua), who may
-- repeat both.
-- ARGV: ensemble, digest of the payload, also those that failed (1 or 0).
-- Returns why not ('' if nothing is against it), how many jobs wait, how many are to be queued again.
local ens, payload, failed = ARGV[1], ARGV[2], ARGV[3] == '1'
local spec = ensemble(ens)
if not spec then return {'missing', 0, 0} end
if spec.state == 'cancelled' then return {'cancelled', 0, 0} end
if spec.state == 'failed' and not spec.sealed then return {'incomplete', 0, 0} end
local hopeless = read('HGET', ens_key(ens) .. ':failures', 'ensemble')
local again = failed and spec.failed or whole(hopeless, 0, MOST) or 0
local waiting = waiting_of(spec)
if waiting + again + spec.running <= 0 and spec.state ~= 'submitting' then return {'ended', 0, spec.failed} end
write('HSET', ens_key(ens), 'payload', payload)
if spec.state == 'failed' then write('HSET', ens_key(ens), 'state', 'open', 'error', '', 'note', '') end
flush()
return {'', waiting, again}
