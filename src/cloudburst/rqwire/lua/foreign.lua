-- Jobs that other tools have cancelled or deleted. Those tools know nothing of ensembles: what they did is
-- recorded here, once, so that the ensemble still completes.

-- A lease whose job is not `started` any more: cancelled or deleted by a stock tool while it ran.
local function settle(queue, id, job)
  if job.status == 'canceled' then
    unlease(queue, id, job)
    if job.cb_ens then record(queue, id, job, {state = 'canceled', error = 'cancelled by another tool'}) end
    return
  end
  redis.call('ZREM', 'cb:lease:' .. queue, id)
  if job.status then return end
  for _, entry in ipairs(redis.call('ZRANGE', 'rq:wip:' .. queue, 0, -1)) do
    if string.sub(entry, 1, #id + 1) == id .. ':' then redis.call('ZREM', 'rq:wip:' .. queue, entry) end
  end
  -- Nothing is left of the job but its id, which names its ensemble and its index.
  local ens, index = string.match(id, '^(.+)%-(%d+)$')
  if ens and redis.call('EXISTS', ens_key(ens)) == 1 then
    redis.call('HINCRBY', ens_key(ens), 'running', -1)
    count_record(ens, 'cancelled', NONE, 1)
    redis.call('XADD', ens_key(ens) .. ':results', '*', 'index', index, 'job', id, 'state', 'cancelled',
      'attempt', 0, 'node', '', 'started_ms', 0, 'duration_ms', 0, 'value', '',
      'error', 'deleted by another tool while it ran', 'fingerprint', '', 'data', '', 'ran', NONE)
  end
end

-- Waiting jobs that a stock tool has cancelled. RQ scores them with the time in CanceledJobRegistry; record()
-- scores with +inf, and so does this when it has seen one.
local function record_cancelled(queue)
  local registry = 'rq:canceled:' .. queue
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', registry, '-inf', '(+inf', 'LIMIT', 0, 200)) do
    local job = load_job(id)
    redis.call('ZADD', registry, INFINITE, id)
    if job.cb_ens and job.status == 'canceled' and not job.cb_final
        and not redis.call('ZSCORE', 'cb:lease:' .. queue, id) then
      record(queue, id, job, {state = 'canceled', error = 'cancelled by another tool'})
    end
  end
end
