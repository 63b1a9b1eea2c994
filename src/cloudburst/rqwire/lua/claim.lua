-- Takes up to n jobs from the head of the queue for one owner.
-- Invariant: an id that leaves the list gets its lease, or its record, in this same script; an id whose job
-- is not `queued` (cancelled, deleted, queued twice) is dropped, because its place is elsewhere.
-- When a worker dies, nobody knows which of its jobs had begun, nor which was to blame: each counts an attempt. So
-- that no job is set aside because of others, one that has been lost before, or may not be lost at all, is taken
-- only by a worker that starts it at once, and of those that have their last attempt a worker has one at a time.
-- Jobs whose payload is not ready at the worker stay where they are. Behind more of them than one call looks at,
-- jobs of other ensembles are taken by their ids, which stay in the list (see past.lua).
-- ARGV: queue, owner, worker name, n, lease in seconds, how many the worker starts at once, whether it has one
-- already that has its last attempt (1 or 0), default limit of attempts, then the payload digests that are not ready
-- ('': that of stock jobs).
-- Returns how many jobs are left in the queue, how many of them were looked at and are for somebody else, and per
-- claimed job: id, attempt, timeout, ensemble, index, payload digest, time of the ensemble, data, what a stock
-- client asked for, care (1: it is started at once or not at all; 2: and has its last attempt), seed of the
-- ensemble, why it cannot be run ('' if it can).
local queue, owner, worker, n, lease = ARGV[1], ARGV[2], ARGV[3], number_at(4), number_at(5)
local at_once, has_last, default = number_at(6), ARGV[7] == '1', number_at(8)
local list, wip, leases = 'rq:queue:' .. queue, 'rq:wip:' .. queue, 'cb:lease:' .. queue
local deadline = string.format('%.6f', now + lease)
local CLAIMED = {'status', 'cb_ens', 'cb_index', 'cb_attempt', 'cb_final', 'timeout', 'data', 'cb_past', place = true}
local excluding, excluded = #ARGV > 8, {}
for i = 9, #ARGV do excluded[ARGV[i]] = true end
local claimed, for_others = {}, {}
local examined = 0

local function take(id, job, ens, care)
  if job.cb_final then  -- queued again by a stock client after it was recorded
    unrecord(queue, id, load_job(id))
    job.cb_attempt = nil
  end
  local attempt = (job.cb_attempt or 0) + 1
  local wishes = ens and {} or starting(id)
  write('HSET', job_key(id), 'status', 'started', 'started_at', now_iso, 'last_heartbeat', now_iso,
    'worker_name', worker, 'cb_owner', owner, 'cb_attempt', attempt)
  job.status = 'started'
  later('ZADD', wip, INFINITE, id .. ':' .. owner)
  later('ZADD', leases, deadline, id)
  if ens then count(ens_key(job.cb_ens), 'running', 1) end
  claimed[#claimed + 1] = {id, attempt, job.timeout or '', job.cb_ens or '', job.cb_index or '',
    ens and ens.payload or '', ens and ens.created_at or '0', job.data or '', wishes, care,
    ens and ens.seed or '', job.malformed or ''}
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

local function care_for(job, ens)
  local lost = job.cb_final and 0 or job.cb_attempt or 0
  local limit = ens and ens.max_attempts or default
  if lost > 0 then return lost + 1 >= limit and 2 or 1 end
  return limit == 1 and 1 or 0
end

-- Takes or records a job that is `queued`; false when it is for somebody else, or for later.
local function deal_with(id, job)
  local ens = job.cb_ens and ensemble(job.cb_ens)
  if refused(id, ens) then return true end
  if excluding and excluded[ens and ens.payload or ''] then return false end
  local care = care_for(job, ens)
  if care > 0 then n = math.min(n, at_once) end  -- and nothing is taken ahead beside it
  if #claimed >= n or (care == 2 and has_last) then return false end
  has_last = has_last or care == 2
  take(id, job, ens, care)
  return true
end

-- The bounds keep one call short when a closed ensemble leaves many ids behind, or many jobs are for others.
local MOST_EXAMINED, MOST_FOR_OTHERS = 2000, 200
while #claimed < n and examined < MOST_EXAMINED and #for_others < MOST_FOR_OTHERS do
  local wanted = #for_others == 0 and n - #claimed or 50
  local ids = read('LRANGE', list, examined, examined + wanted - 1) or {}
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    examined = examined + 1
    local job = load(id, CLAIMED)
    if job.status == 'queued' and not deal_with(id, job) then
      for_others[#for_others + 1] = id
    elseif job.cb_past then
      write('HDEL', job_key(id), 'cb_past')
    end
  end
end
if examined > #for_others then
  write('LTRIM', list, examined, -1)
  local back = {}
  for i = #for_others, 1, -1 do back[#back + 1] = for_others[i] end
  if #back > 0 then write('LPUSH', list, unpack(back)) end
end
if excluding and #claimed < n and (#for_others >= MOST_FOR_OTHERS or examined >= MOST_EXAMINED) then
  take_past(queue, excluded, function() return #claimed < n end, CLAIMED, deal_with)
end

release_dependents(queue)
flush()
return {read('LLEN', list) or 0, #for_others, claimed}
