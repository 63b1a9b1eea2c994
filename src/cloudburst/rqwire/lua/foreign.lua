-- Jobs that other tools have cancelled or deleted. Those tools know nothing of ensembles: what they did is
-- recorded here, once, so that the ensemble still completes.

-- A lease whose job is not `started` any more: cancelled or deleted by a stock tool while it ran.
local function settle(queue, id, job)
  if job.status == 'canceled' then
    unlease(queue, id, job)
    if job.cb_ens then record(queue, id, job, {state = 'canceled', error = 'cancelled by another tool'}) end
    return
  end
  later('ZREM', 'cb:lease:' .. queue, id)
  if job.status and known[job_key(id)] then return end
  for _, entry in ipairs(read('ZRANGE', 'rq:wip:' .. queue, 0, -1) or {}) do
    if string.sub(entry, 1, #id + 1) == id .. ':' then later('ZREM', 'rq:wip:' .. queue, entry) end
  end
  if job.status then return to_head(queue, id, job) end  -- what is there is no hash: claim.lua says so
  -- Nothing is left of the job but its id, which names its ensemble and its index.
  local ens, index = string.match(id, '^(.+)%-(%d+)$')
  if ens and ensemble(ens) and whole(index, 0, ensemble(ens).submitted - 1) then
    count(ens_key(ens), 'running', -1)
    enter(ens, index, id, 'cancelled', {error = 'deleted by another tool while it ran'})
  end
end

-- Waiting jobs that a stock tool has cancelled. RQ scores them with the time in CanceledJobRegistry; record()
-- scores with +inf, and so does this when it has seen one.
local function record_cancelled(queue)
  local registry = 'rq:canceled:' .. queue
  for _, id in ipairs(read('ZRANGEBYSCORE', registry, '-inf', '(+inf', 'LIMIT', 0, 200) or {}) do
    local job = load_job(id)
    later('ZADD', registry, INFINITE, id)
    if job.cb_ens and job.status == 'canceled' and not job.cb_final
        and not read('ZSCORE', 'cb:lease:' .. queue, id) then
      record(queue, id, job, {state = 'canceled', error = 'cancelled by another tool'})
    end
  end
end
