-- Lets an ensemble's jobs that have not started run on another payload; one that failed as a whole goes on.
-- Invariant: a claim names the payload that its ensemble has at that moment, and an ensemble fails as a whole only
-- for the payload that it still has (close.lua). So a worker that finds the old one broken ends nothing afterwards.
-- Jobs that failed with the whole ensemble, or all that failed, are queued again by the caller (retry.lua), who may
-- repeat both.
-- ARGV: ensemble, digest of the payload, also those that failed (1 or 0).
-- Returns why not ('' if nothing is against it), how many jobs wait, how many are to be queued again.
local ens, payload, failed = ARGV[1], ARGV[2], ARGV[3] == '1'
local key = ens_key(ens)
local spec = hash(key, 'state', 'sealed', 'running', 'failed')
if not spec.state then return {'missing', 0, 0} end
if spec.state == 'cancelled' then return {'cancelled', 0, 0} end
if spec.state == 'failed' and not spec.sealed then return {'incomplete', 0, 0} end
local again = tonumber(failed and spec.failed or redis.call('HGET', key .. ':failures', 'ensemble') or 0)
local waiting = waiting_of(ens)
if waiting + again + tonumber(spec.running or 0) <= 0 and spec.state ~= 'submitting' then
  return {'ended', 0, tonumber(spec.failed or 0)}
end
redis.call('HSET', key, 'payload', payload)
if spec.state == 'failed' then redis.call('HSET', key, 'state', 'open', 'error', '', 'note', '') end
return {'', waiting, again}
