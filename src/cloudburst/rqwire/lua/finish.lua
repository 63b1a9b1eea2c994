-- Makes jobs final, each only if its lease is still held by the owner that finishes it.
-- Invariant: a job is recorded once. A repetition by the same owner (its reply was lost) is recognised by
-- cb_final; anybody else's is stale and leaves no trace.
-- ARGV: queue, node, name of the worker, how many finished jobs of ensembles keep their hashes; then per job
-- state, id, owner, started_ms, duration_ms, and: value, rq_return when it finished; error, fingerprint,
-- rq_exception, output when it failed. Returns per job: recorded, retried, repeated or stale.
local queue, node, worker, kept = ARGV[1], ARGV[2], 'rq:worker:' .. ARGV[3], tonumber(ARGV[4])
local recent = 'cb:recent:' .. queue
local answers = {}
local ended, seconds = {finished = 0, failed = 0}, 0

local function again(id, job)
  -- What RQ does for Retry(max, interval): one retry fewer; at once or after the interval.
  local left = tonumber(job.retries_left or 0)
  if left <= 0 then return false end
  local delay = 0
  if job.retry_intervals then
    local readable, intervals = pcall(cjson.decode, job.retry_intervals)
    if readable and type(intervals) == 'table' then
      delay = tonumber(intervals[math.max(#intervals - left + 1, 1)] or intervals[#intervals] or 0) or 0
    end
  end
  redis.call('HSET', job_key(id), 'retries_left', left - 1)
  redis.call('HDEL', job_key(id), 'cb_owner', 'cb_attempt')
  if delay > 0 then
    redis.call('HSET', job_key(id), 'status', 'scheduled')
    later('ZADD', 'rq:scheduled:' .. queue, now + delay, id)
  else
    redis.call('HSET', job_key(id), 'status', 'queued')
    later('RPUSH', 'rq:queue:' .. queue, id)
  end
  return true
end

-- Finished jobs of ensembles whose hashes are kept for stock RQ tools are those that finished last: the result
-- stream is the record. A job that was queued again meanwhile is none of them.
local function forget_old()
  local excess = redis.call('LLEN', recent) - kept
  if excess <= 0 then return end
  for _, id in ipairs(redis.call('LPOP', recent, math.min(excess, 1000))) do
    if redis.call('HGET', job_key(id), 'status') == 'finished' then
      redis.call('DEL', job_key(id), 'rq:results:' .. id)
      later('ZREM', 'rq:finished:' .. queue, id)
    end
  end
end

local function outcome_at(i)
  local outcome = {state = ARGV[i], owner = ARGV[i + 2], node = node, started_ms = ARGV[i + 3],
    duration_ms = ARGV[i + 4]}
  if outcome.state == 'finished' then
    outcome.value, outcome.rq_return = ARGV[i + 5], ARGV[i + 6]
    return outcome, i + 7
  end
  outcome.error, outcome.fingerprint = ARGV[i + 5], ARGV[i + 6]
  outcome.rq_exception, outcome.output = ARGV[i + 7], ARGV[i + 8]
  return outcome, i + 9
end

local i = 5
while i <= #ARGV do
  local id = ARGV[i + 1]
  local outcome
  outcome, i = outcome_at(i)
  local job = load_job(id)
  local answer
  if job.status == 'started' and job.cb_owner == outcome.owner then
    unlease(queue, id, job)
    ended[outcome.state] = ended[outcome.state] + 1
    seconds = seconds + tonumber(outcome.duration_ms) / 1000
    if outcome.state == 'failed' and again(id, job) then
      answer = 'retried'
    else
      record(queue, id, job, outcome)
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
if (ended.finished > 0 or ended.failed > 0) and redis.call('EXISTS', worker) == 1 then
  count(worker, 'successful_job_count', ended.finished)
  count(worker, 'failed_job_count', ended.failed)
  redis.call('HINCRBYFLOAT', worker, 'total_working_time', seconds)
end
forget_old()

flush()
return answers
