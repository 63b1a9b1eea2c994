-- Queues failed (or cancelled) jobs of an ensemble again, a range of indices at a time.
-- Invariant: the record of a job is withdrawn in the step that queues it.
-- ARGV: ensemble, RQ status to retry, fingerprint or '' for all, retries, first index, count.
-- Returns how many were queued.
local ens, status, fingerprint, retries = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local first, count = tonumber(ARGV[5]), tonumber(ARGV[6])
local key = ens_key(ens)
local spec = hash(key, 'queue', 'submitted', 'state')
if spec.state == 'cancelled' or spec.state == 'failed' then
  redis.call('HSET', key, 'state', 'open', 'error', '', 'note', '')
end
local queued = 0
for index = first, math.min(first + count, tonumber(spec.submitted)) - 1 do
  local id = ens .. '-' .. index
  local job = load_job(id)
  local wanted = job.status == status or (status == 'failed' and job.status == 'stopped')
  if wanted and (fingerprint == '' or job.cb_fp == fingerprint) then
    unrecord(spec.queue, id, job)
    redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', now_iso, 'retries_left', retries)
    redis.call('HDEL', job_key(id), 'cb_attempt')
    enlist(spec.queue, id, job, 'RPUSH')
    queued = queued + 1
  end
end
flush()
return queued
