-- What only jobs of stock clients ask for. Jobs of ensembles never do, and are not asked.

local ASKED = {'description', 'origin', 'created_at', 'enqueued_at', 'meta', 'retries_left',
  'success_callback_name', 'success_callback_timeout', 'failure_callback_name', 'failure_callback_timeout',
  'stopped_callback_name', 'stopped_callback_timeout', 'ttl', 'ended_at', 'data', 'result_ttl', 'failure_ttl',
  'retry_intervals', 'repeats_left', 'repeat_intervals'}
local TOLD = 12  -- the first of them are told to the worker

-- Retry(max, interval) and Repeat(times, interval): seconds, a JSON list.
local function intervals(job, name)
  local readable, list = pcall(cjson.decode, job[name] or '[]')
  if readable and type(list) == 'number' then list = {list} end
  local well = readable and type(list) == 'table'
  for _, seconds in ipairs(well and list or {}) do
    well = well and type(seconds) == 'number' and seconds >= 0 and seconds <= SECONDS.most
  end
  if not well then malform(job, name .. ': should be a JSON list of seconds, got ' .. shown(job[name])) end
  return well and list or {}
end

-- All that is checked of a job that is about to start, or has failed.
local function check_stock(id)
  local job = load(id, ASKED)
  if not job.data then malform(job, 'data: is missing') end
  if #id > 1000 then malform(job, 'its id has ' .. #id .. ' bytes, the limit is 1000') end
  if string.find(id, '[^\32-\126]') then malform(job, 'its id should be letters, digits, - and _, is ' .. shown(id)) end
  intervals(job, 'retry_intervals')
  intervals(job, 'repeat_intervals')
  for key, kind in pairs({['rq:results:' .. id] = 'stream', [job_key(id) .. ':dependents'] = 'set',
      ['rq:job::' .. id .. ':dependencies'] = 'set'}) do
    local there = kind_of(key)
    if there ~= kind and there ~= 'none' then malform(job, key .. ': should be a ' .. kind .. ', is a ' .. there) end
  end
  return job
end

-- A stock job is about to start: what the worker must know of it, in the order of ASKED; {} for a plain one.
local function starting(id)
  local job = check_stock(id)
  -- The ttl is for waiting: a job that has started, or is to run again, does not expire any more.
  if job.ttl then
    local left_ms = redis.call('PTTL', job_key(id))
    if left_ms > 0 then write('HSET', job_key(id), 'cb_expires', string.format('%.0f', now * 1000 + left_ms)) end
  end
  if job.ttl or (job.ended_at or '') ~= '' then write('PERSIST', job_key(id)) end
  local function given(name) return (job[name] or '') ~= '' end
  if not (given('meta') or given('success_callback_name') or given('failure_callback_name')
      or given('stopped_callback_name')) then
    return {}
  end
  local told = {}
  for i = 1, TOLD do told[i] = job[ASKED[i]] or false end
  return told
end

-- A job that was claimed goes back without having started: its ttl goes on.
local function not_started(id)
  local expires = load(id, {'cb_expires'}).cb_expires
  if expires then write('PEXPIREAT', job_key(id), expires) end
end

-- Queues a job that has ended once more, after `delay` seconds or at once.
local function queue_again(queue, id, job, delay, at_front)
  local key = job_key(id)
  local ttl = load(id, {'ttl'}).ttl
  if ttl and ttl > 0 then write('EXPIRE', key, ttl) else write('PERSIST', key) end
  if delay > 0 then
    write('HSET', key, 'status', 'scheduled')
    write('ZADD', 'rq:scheduled:' .. queue, now + delay, id)
    job.status = 'scheduled'
  else
    write('HSET', key, 'status', 'queued', 'enqueued_at', now_iso)
    enlist(queue, id, job, at_front and 'LPUSH' or 'RPUSH')
  end
end

-- One retry fewer; whether there was one left.
local function retry_again(queue, id, job)
  local left = job.retries_left or 0
  if left <= 0 or job.malformed then return false end
  local list = intervals(job, 'retry_intervals')
  local delay = list[math.max(#list - left + 1, 1)] or 0
  local at_front = not job.cb_ens and read('HGET', job_key(id), 'enqueue_at_front_on_retry') == '1'
  write('HSET', job_key(id), 'retries_left', left - 1, 'ended_at', now_iso)
  write('HDEL', job_key(id), 'cb_owner', 'cb_attempt')
  job.cb_owner = nil
  queue_again(queue, id, job, delay, at_front)
  return true
end

local REPEATING = {'repeats_left', 'repeat_intervals'}

-- How often a job that finishes is still to run.
local function repeats_left(id)
  return load(id, REPEATING).repeats_left or 0
end

local function repeat_again(queue, id, job, left)
  local list = intervals(load(id, REPEATING), 'repeat_intervals')
  write('HSET', job_key(id), 'repeats_left', left - 1)
  -- RQ counts intervals from the last repeat to the first (rq/repeat.py: repeat_count).
  queue_again(queue, id, job, list[math.min(left, #list)] or 0, false)
end

local SCHEDULED = {'status', 'enqueue_at_front', 'enqueue_at_front_on_retry', 'ended_at', 'cb_ens', 'cb_index', 'cb_past',
  place = true}

-- Scheduled jobs that are due go to the queue.
local function queue_due(queue)
  local scheduled = 'rq:scheduled:' .. queue
  for _, id in ipairs(read('ZRANGEBYSCORE', scheduled, '-inf', now, 'LIMIT', 0, 200) or {}) do
    later('ZREM', scheduled, id)
    local job = load(id, SCHEDULED)
    if job.status then
      local ran = (job.ended_at or '') ~= ''
      queue_again(queue, id, job, 0, job.enqueue_at_front == '1' or (job.enqueue_at_front_on_retry == '1' and ran))
    end
  end
end
