-- Makes jobs final, each only if its lease is still held by the owner that finishes it.
-- Invariant: a job is recorded once. A repetition by the same owner (its reply was lost) is recognised by
-- cb_final; anybody else's is stale and leaves no trace.
-- ARGV: queue, node, name of the worker, how many finished jobs of ensembles keep their hashes, how many texts that
-- say what jobs ran on, these texts; then per job state, id, owner, started_ms, duration_ms, which of the texts holds
-- for it (from 1; 0: none), and: value, rq_return when it finished; error, fingerprint,
-- rq_exception, output when it failed. Returns per job: recorded, retried, repeated or stale.
local queue, node, worker, kept = ARGV[1], ARGV[2], 'rq:worker:' .. ARGV[3], number_at(4)
local texts = number_at(5)
local recent = 'cb:recent:' .. queue
local answers = {}
local ended, seconds = {finished = 0, failed = 0, stopped = 0}, 0

-- Finished jobs of ensembles whose hashes are kept for stock RQ tools are those that finished last: the result
-- stream is the record. A job that was queued again meanwhile is none of them.
local function forget_old()
  local excess = math.min((read('LLEN', recent) or 0) - kept, 1000)
  if excess <= 0 then return end
  local gone = {}
  for _, id in ipairs(redis.call('LRANGE', recent, 0, excess - 1)) do
    local key = job_key(id)
    local job = jobs[id] or {status = read('HGET', key, 'status')}
    if job.status == 'finished' then
      gone[#gone + 1] = key
      later('ZREM', 'rq:finished:' .. queue, id)
    end
  end
  write('LTRIM', recent, excess, -1)
  if #gone > 0 then write('DEL', unpack(gone)) end
end

-- All that is asked of a job that has finished; others may be retried.
local FINISHED = {'status', 'cb_owner', 'cb_attempt', 'cb_ens', 'cb_index', 'cb_final', 'data', 'result_ttl',
  'worker_name', place = true}

local function outcome_at(i)
  local text = number_at(i + 5)
  local outcome = {state = ARGV[i], owner = ARGV[i + 2], node = node, started_ms = ARGV[i + 3],
    duration_ms = ARGV[i + 4], provenance = text > 0 and ARGV[5 + text] or nil}
  number_at(i + 3)
  if outcome.state == 'finished' then
    outcome.value, outcome.rq_return = ARGV[i + 6], ARGV[i + 7]
    return outcome, i + 8
  end
  outcome.error, outcome.fingerprint = ARGV[i + 6], ARGV[i + 7]
  outcome.rq_exception, outcome.output = ARGV[i + 8], ARGV[i + 9]
  return outcome, i + 10
end

local i = 6 + texts
while i <= #ARGV do
  local id, duration_ms = ARGV[i + 1], number_at(i + 4)
  local outcome
  outcome, i = outcome_at(i)
  local job = load(id, outcome.state == 'finished' and FINISHED or JOB_FIELDS)
  local answer
  -- A stock tool cancels a running job by name only: it runs on, and ends as it ends (as in stock RQ).
  local running = job.status == 'started' or (job.status == 'canceled' and not job.cb_final)
  if running and job.cb_owner == outcome.owner then
    unlease(queue, id, job)
    ended[outcome.state] = ended[outcome.state] + 1
    seconds = seconds + duration_ms / 1000
    if outcome.state == 'failed' and not job.cb_ens then check_stock(id) end
    if outcome.state == 'failed' and retry_again(queue, id, job) then
      answer = 'retried'
    else
      local repeats = outcome.state == 'finished' and not job.cb_ens and repeats_left(id) or 0
      outcome.repeats = repeats > 0
      record(queue, id, job, outcome)
      if outcome.repeats then repeat_again(queue, id, job, repeats) end
      if job.cb_ens and outcome.state == 'finished' then later('RPUSH', recent, id) end
      answer = 'recorded'
    end
  elseif job.cb_final == outcome.owner then
    answer = 'repeated'
  else
    answer = 'stale'
  end
  answers[#answers + 1] = answer
end
-- What a stock worker counts of itself; the worker's entry may have expired, and is not made by counting.
if ended.finished + ended.failed + ended.stopped > 0 and redis.call('EXISTS', worker) == 1 then
  count(worker, 'successful_job_count', ended.finished)
  count(worker, 'failed_job_count', ended.failed + ended.stopped)
  count(worker, 'total_working_time', seconds)
end
forget_old()

release_dependents(queue)
flush()
return answers
