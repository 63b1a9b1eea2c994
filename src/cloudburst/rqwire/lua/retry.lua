-- Queues failed (or cancelled) jobs of an ensemble again, a range of indices at a time.
-- Invariant: the record of a job is withdrawn in the step that queues it.
-- ARGV: ensemble, RQ status to retry, fingerprint or '' for all, retries, first index, count.
-- Returns how many were queued.
local ens, status, fingerprint, retries = ARGV[1], ARGV[2], ARGV[3], number_at(4)
local first, count = number_at(5), number_at(6)
local spec = ensemble(ens)
if not spec then return 0 end
if spec.state == 'cancelled' or spec.state == 'failed' then
  write('HSET', ens_key(ens), 'state', 'open', 'error', '', 'note', '')
end
local queued = 0
for index = first, math.min(first + count, spec.submitted) - 1 do
  local id = ens .. '-' .. string.format('%.0f', index)
  local job = load_job(id)
  local wanted = job.status == status or (status == 'failed' and job.status == 'stopped')
  if wanted and job.cb_ens and (fingerprint == '' or job.cb_fp == fingerprint) then
    unrecord(spec.queue, id, job)
    write('HSET', job_key(id), 'status', 'queued', 'enqueued_at', now_iso, 'retries_left', retries)
    write('HDEL', job_key(id), 'cb_attempt')
    enlist(spec.queue, id, job, 'RPUSH')
    queued = queued + 1
  end
end
flush()
return queued
