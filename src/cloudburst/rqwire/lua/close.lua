-- Makes the jobs of an ensemble final that are not yet, a range of indices at a time.
-- Invariant: the ensemble's state is set first, and claim refuses its jobs from then on; so it does not matter
-- where a caller of several ranges is interrupted: what is left is recorded when it reaches the queue's head.
-- ARGV: ensemble, state (cancelled or failed), error, also the running ones (1 or 0), first index, count,
-- rq_exception, payload that the ensemble must still have ('-': any). Returns how many became final; -1 and changes
-- nothing if the ensemble was complete, unless all its jobs have failed and it is to be failed.
local ens, state, reason, running = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local first, count = number_at(5), number_at(6)
local spec = ensemble(ens)
if not spec or (ARGV[8] ~= '-' and ARGV[8] ~= (spec.payload or '')) then return 0 end
local ended = spec.finished + spec.failed + spec.cancelled
local hopeless = state == 'failed' and spec.state == 'open' and spec.failed >= spec.submitted  -- its jobs said so first
if spec.state ~= state and spec.state ~= 'submitting' and ended >= spec.submitted and not hopeless then return -1 end
if spec.state ~= state then write('HSET', ens_key(ens), 'state', state, 'error', reason, 'note', '') end
local status = state == 'cancelled' and 'canceled' or 'failed'
local closed = 0
for index = first, math.min(first + count, spec.submitted) - 1 do
  local id = ens .. '-' .. string.format('%.0f', index)
  local job = load_job(id)
  local place = job.status
  if place == 'canceled' and not job.cb_final then  -- by a stock tool, a moment ago
    place = read('ZSCORE', 'cb:lease:' .. spec.queue, id) and 'started' or 'queued'
  end
  if not job.cb_ens then place = nil end
  if place == 'started' and running then unlease(spec.queue, id, job) end
  if place == 'scheduled' then later('ZREM', 'rq:scheduled:' .. spec.queue, id) end
  if place == 'queued' or place == 'scheduled' or (place == 'started' and running) then
    record(spec.queue, id, job, {state = status, error = reason, fingerprint = 'ensemble',
      rq_exception = ARGV[7]})
    closed = closed + 1
  end
end
release_dependents(spec.queue)
flush()
return closed
