-- What only jobs of stock clients ask for. Jobs of ensembles never do, and are not asked.

local ASKED = {'description', 'origin', 'created_at', 'enqueued_at', 'meta', 'retries_left',
  'success_callback_name', 'success_callback_timeout', 'failure_callback_name', 'failure_callback_timeout',
  'stopped_callback_name', 'stopped_callback_timeout', 'ttl', 'ended_at'}
local META, FIRST_CALLBACK = 5, 7

-- A stock job is about to start: what the worker must know of it, in the order of ASKED; {} for a plain one.
local function starting(id)
  local asked = redis.call('HMGET', job_key(id), unpack(ASKED))
  local ttl, ended_at = asked[#ASKED - 1], asked[#ASKED]
  -- The ttl is for waiting: a job that has started, or is to run again, does not expire any more.
  if ttl then
    local left_ms = redis.call('PTTL', job_key(id))
    if left_ms > 0 then
      redis.call('HSET', job_key(id), 'cb_expires', string.format('%.0f', now * 1000 + left_ms))
    end
  end
  if ttl or (ended_at and ended_at ~= '') then redis.call('PERSIST', job_key(id)) end
  local function given(i) return asked[i] and asked[i] ~= '' end
  local plain = not (given(META) or given(FIRST_CALLBACK) or given(FIRST_CALLBACK + 2) or given(FIRST_CALLBACK + 4))
  return plain and {} or asked
end

-- A job that was claimed goes back without having started: its ttl goes on.
local function not_started(id)
  local expires = redis.call('HGET', job_key(id), 'cb_expires')
  if expires then redis.call('PEXPIREAT', job_key(id), expires) end
end

-- Queues a job that has ended once more, after `delay` seconds or at once.
local function queue_again(queue, id, job, delay, at_front)
  local key = job_key(id)
  local ttl = redis.call('HGET', key, 'ttl')
  if ttl then redis.call('EXPIRE', key, ttl) else redis.call('PERSIST', key) end
  if delay > 0 then
    redis.call('HSET', key, 'status', 'scheduled')
    redis.call('ZADD', 'rq:scheduled:' .. queue, now + delay, id)
  else
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', now_iso)
    enlist(queue, id, job, at_front and 'LPUSH' or 'RPUSH')
  end
end

local function intervals(text)
  local readable, list = pcall(cjson.decode, text or '')
  return readable and type(list) == 'table' and list or {}
end

-- Retry(max, interval): one retry fewer; whether there was one left.
local function retry_again(queue, id, job)
  local left = tonumber(job.retries_left or 0)
  if left <= 0 then return false end
  local list = intervals(job.retry_intervals)
  local delay = tonumber(list[math.max(#list - left + 1, 1)] or 0) or 0
  local at_front = not job.cb_ens and redis.call('HGET', job_key(id), 'enqueue_at_front_on_retry') == '1'
  redis.call('HSET', job_key(id), 'retries_left', left - 1, 'ended_at', now_iso)
  redis.call('HDEL', job_key(id), 'cb_owner', 'cb_attempt')
  queue_again(queue, id, job, delay, at_front)
  return true
end

-- Repeat(times, interval): how often a job that finishes is still to run.
local function repeats_left(id)
  return tonumber(redis.call('HGET', job_key(id), 'repeats_left') or 0)
end

local function repeat_again(queue, id, job, left)
  local list = intervals(redis.call('HGET', job_key(id), 'repeat_intervals'))
  redis.call('HSET', job_key(id), 'repeats_left', left - 1)
  -- RQ counts intervals from the last repeat to the first (rq/repeat.py: repeat_count).
  queue_again(queue, id, job, tonumber(list[math.min(left, #list)] or 0) or 0, false)
end

-- Scheduled jobs that are due go to the queue.
local function queue_due(queue)
  local scheduled = 'rq:scheduled:' .. queue
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', scheduled, '-inf', now, 'LIMIT', 0, 200)) do
    redis.call('ZREM', scheduled, id)
    local job = hash(job_key(id), 'status', 'enqueue_at_front', 'enqueue_at_front_on_retry', 'ended_at', 'cb_ens',
      'cb_index', 'cb_past')
    if job.status then
      local ran = job.ended_at and job.ended_at ~= ''
      queue_again(queue, id, job, 0, job.enqueue_at_front == '1' or (job.enqueue_at_front_on_retry == '1' and ran))
    end
  end
end
