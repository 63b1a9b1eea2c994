-- Dependents of jobs that have become final: what stock RQ's Queue.enqueue_dependents does, in the same step.
-- Invariant: a deferred job is in its queue's deferred registry and in the sets of its dependencies; it leaves
-- the registry for its queue in the step that meets the last of them, and only once.
-- RQ names dependents in a set beside the job, of which the job's hash says nothing. All sets of a call are
-- looked for with one EXISTS, so that jobs without dependents cost next to nothing; jobs of ensembles are
-- looked at too, because a stock client may let its own job wait for one.

local function dependents_key(id) return 'rq:job:' .. id .. ':dependents' end
local function dependencies_key(id) return 'rq:job::' .. id .. ':dependencies' end  -- two colons: RQ's spelling

-- Whether nothing but `parent` can still keep a job waiting. One that has expired or was deleted does not.
local function others_met(id, parent, allow_failure)
  for _, other in ipairs(read('SMEMBERS', dependencies_key(id)) or {}) do
    local status = other ~= parent and load(other, {'status'}).status
    if status and status ~= 'finished' and not (allow_failure and status == 'failed') then return false end
  end
  return true
end

local DEFERRED = {'status', 'origin', 'ttl', 'created_at', 'enqueue_at_front', 'timeout', 'allow_dependency_failures'}

local function enqueue_dependents(queue, parent, state)
  local key = dependents_key(parent)
  local ready = {}
  for _, id in ipairs(read('SMEMBERS', key) or {}) do
    local job = load(id, DEFERRED)
    local allowed = job.allow_dependency_failures == '1'
    if job.status ~= 'deferred' then
      -- Queued by another dependency, cancelled, or gone: its place is elsewhere.
      write('SREM', key, id)
    elseif (state == 'finished' or allowed) and others_met(id, parent, allowed) then
      ready[#ready + 1] = {id = id, job = job}
    end
  end
  -- A set has no order: jobs are queued in the order in which they were made.
  table.sort(ready, function(a, b) return (a.job.created_at or '') < (b.job.created_at or '') end)
  for _, one in ipairs(ready) do
    local id, job = one.id, one.job
    local origin = job.origin or queue
    write('SREM', key, id)
    write('ZREM', 'rq:deferred:' .. origin, id)
    write('HSET', job_key(id), 'status', 'queued', 'enqueued_at', now_iso)
    write('HSETNX', job_key(id), 'timeout', DEFAULT_TIMEOUT)
    if (job.ttl or 0) > 0 then write('EXPIRE', job_key(id), job.ttl) end
    write(job.enqueue_at_front == '1' and 'LPUSH' or 'RPUSH', 'rq:queue:' .. origin, id)
    job.status = 'queued'
  end
end

-- Called at the end of every script that may make jobs final.
local function release_dependents(queue)
  if #final == 0 then return end
  local keys = {}
  for _, job in ipairs(final) do
    keys[#keys + 1] = dependents_key(job.id)
    keys[#keys + 1] = not job.ens and dependencies_key(job.id) or nil
  end
  if redis.call('EXISTS', unpack(keys)) == 0 then return end
  for _, job in ipairs(final) do
    -- As stock RQ: what was cancelled or stopped meets no dependency, not even one that may fail.
    if job.was ~= 'canceled' and (job.state == 'finished' or job.state == 'failed') then
      enqueue_dependents(queue, job.id, job.state)
    end
  end
  for _, job in ipairs(final) do  -- afterwards: jobs of one call may depend on one another's
    for _, key in ipairs({dependents_key(job.id), dependencies_key(job.id)}) do
      if job.ttl == 0 then write('DEL', key) elseif job.ttl > 0 then write('EXPIRE', key, job.ttl) end
    end
  end
end
