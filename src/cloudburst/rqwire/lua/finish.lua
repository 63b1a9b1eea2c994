-- Makes jobs final, each only if its lease is still held by the owner that finishes it.
-- Invariant: a job is recorded once. A repetition by the same owner (its reply was lost) is recognised by
-- cb_final; anybody else's is stale and leaves no trace.
-- ARGV: queue, node, name of the worker, then twelve per job: id, owner, state, started_ms, duration_ms, value, rq_return,
-- error, fingerprint, rq_exception, output, retryable (1 or 0).
-- Returns per job: recorded, retried, repeated or stale.
local queue, node, worker = ARGV[1], ARGV[2], 'rq:worker:' .. ARGV[3]
local answers = {}
local count, seconds = {finished = 0, failed = 0}, 0

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
    redis.call('ZADD', 'rq:scheduled:' .. queue, now + delay, id)
  else
    redis.call('HSET', job_key(id), 'status', 'queued')
    redis.call('RPUSH', 'rq:queue:' .. queue, id)
  end
  return true
end

for i = 4, #ARGV, 12 do
  local id, owner, state, retryable = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 11] == '1'
  local job = load_job(id)
  local answer
  if job.cb_owner == owner and redis.call('ZSCORE', 'cb:lease:' .. queue, id) then
    unlease(queue, id, job)
    count[state] = count[state] + 1
    seconds = seconds + tonumber(ARGV[i + 4]) / 1000
    if retryable and again(id, job) then
      answer = 'retried'
    else
      record(queue, id, job, {state = state, owner = owner, node = node, started_ms = ARGV[i + 3],
        duration_ms = ARGV[i + 4], value = ARGV[i + 5], rq_return = ARGV[i + 6], error = ARGV[i + 7],
        fingerprint = ARGV[i + 8], rq_exception = ARGV[i + 9], output = ARGV[i + 10]})
      answer = 'recorded'
    end
  elseif job.cb_final == owner then
    answer = 'repeated'
  else
    answer = 'stale'
  end
  answers[#answers + 1] = answer
end
-- What a stock worker counts of itself; the worker's entry may have expired, and is not made by counting.
if (count.finished > 0 or count.failed > 0) and redis.call('EXISTS', worker) == 1 then
  redis.call('HINCRBY', worker, 'successful_job_count', count.finished)
  redis.call('HINCRBY', worker, 'failed_job_count', count.failed)
  redis.call('HINCRBYFLOAT', worker, 'total_working_time', seconds)
end
return answers
