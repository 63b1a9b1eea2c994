-- Takes up to n jobs from the head of the queue for one owner.
-- Invariant: an id that leaves the list gets its lease, or its record, in this same script; an id whose job
-- is not `queued` (cancelled, deleted, queued twice) is dropped, because its place is elsewhere.
-- When a worker dies, nobody knows which of its jobs had begun: each counts an attempt. A job that has been lost
-- before, or may not be lost at all, is therefore taken only by a worker that starts it at once, and with as few
-- others as that: so no job is set aside because of others.
-- ARGV: queue, owner, worker name, n, lease in seconds, how many the worker starts at once
-- Returns how many jobs are left in the queue, and per claimed job: id, attempt, timeout, ensemble, index,
-- payload digest, time of the ensemble, data, what a stock client asked for, whether it must be alone (1 or 0).
local queue, owner, worker, n, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local at_once = tonumber(ARGV[6])
local list, wip, leases = 'rq:queue:' .. queue, 'rq:wip:' .. queue, 'cb:lease:' .. queue
local deadline = string.format('%.6f', now + lease)
local CLAIMED = {'status', 'cb_ens', 'cb_index', 'cb_attempt', 'cb_final', 'timeout', 'data'}
local ensembles = {}
local claimed = {}
local examined = 0

local function ensemble_of(ens)
  if not ensembles[ens] then
    ensembles[ens] = hash(ens_key(ens), 'state', 'payload', 'error', 'created_at', 'max_attempts')
  end
  return ensembles[ens]
end

local function take(id, job, ens, alone)
  if job.cb_final then  -- queued again by a stock client after it was recorded
    unrecord(queue, id, load_job(id))
    job.cb_attempt = nil
  end
  local attempt = tonumber(job.cb_attempt or 0) + 1
  redis.call('HSET', job_key(id), 'status', 'started', 'started_at', now_iso, 'last_heartbeat', now_iso,
    'worker_name', worker, 'cb_owner', owner, 'cb_attempt', attempt)
  later('ZADD', wip, INFINITE, id .. ':' .. owner)
  later('ZADD', leases, deadline, id)
  if ens then count(ens_key(job.cb_ens), 'running', 1) end
  claimed[#claimed + 1] = {id, attempt, job.timeout or '', job.cb_ens or '', job.cb_index or '',
    ens and ens.payload or '', ens and ens.created_at or '0', job.data or '', ens and {} or starting(id), alone and 1 or 0}
end

local function refused(id, ens)
  if not ens then return false end
  if ens.state == 'cancelled' then
    record(queue, id, load_job(id), {state = 'canceled'})
  elseif ens.state == 'failed' then
    record(queue, id, load_job(id), {state = 'failed', error = ens.error, fingerprint = 'ensemble'})
  end
  return ens.state == 'cancelled' or ens.state == 'failed'
end

-- Whether the job was taken, or has no place here; not if it has to stay at the head of the queue.
local function dealt_with(id)
  local job = load_fields(id, CLAIMED)
  local ens = job.cb_ens and job.status == 'queued' and ensemble_of(job.cb_ens)
  if job.status ~= 'queued' or refused(id, ens) then return true end
  local alone = (job.cb_attempt and job.cb_attempt ~= '0' and not job.cb_final) or (ens and ens.max_attempts == '1')
  if alone then n = math.min(n, at_once) end
  if #claimed >= n then return false end
  take(id, job, ens, alone)
  return true
end

-- The bound keeps one call short when a closed ensemble leaves many ids behind.
while #claimed < n and examined < 2000 do
  local ids = redis.call('LPOP', list, n - #claimed)
  if not ids then break end
  for place, id in ipairs(ids) do
    examined = examined + 1
    if not dealt_with(id) then
      for i = #ids, place, -1 do redis.call('LPUSH', list, ids[i]) end
      break
    end
  end
end

release_dependents()
flush()
return {redis.call('LLEN', list), claimed}
