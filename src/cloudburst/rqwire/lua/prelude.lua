-- Shared by all scripts. Invariants that every script keeps, whatever is interrupted between two of them:
--   1. A job that is not final is in exactly one place: the queue list (status queued), the lease set
--      (status started), the scheduled set (status scheduled), or a dependency's set (status deferred). Ids of
--      other jobs in the list are left over, and dropped at its head; some are needed there (past.lua).
--   2. Only the owner of a lease can make a started job final. Owners are never used twice: a worker makes
--      a new one for each claim.
--   3. A job of an ensemble is counted in exactly one counter, and a final one has exactly one entry in the
--      result stream; counter, entry and status change in the same script.
-- A lease is a member of cb:lease:<queue>, scored with its deadline in seconds. The job's hash holds
-- cb_owner (of its lease, as long as its status is started), cb_attempt, and once it is final cb_final (the
-- owner that finished it) and cb_entry.

redis.replicate_commands()  -- Redis 6.2: allows writes after TIME; from 7.0 on always so
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local FOREVER = 365 * 24 * 3600
local INFINITE = '+inf'
local DEFAULT_TIMEOUT = 180  -- seconds, of RQ's queues

-- How long a finished job's hash stays for stock RQ tools, in seconds, unless it says so itself: RQ's own default,
-- and longer in an ensemble. The result stream is the record.
local function result_ttl(job) return job.cb_ens and 3600 or 500 end

local function iso(seconds, micros)
  -- RQ's timestamp format; days to civil date after Howard Hinnant's algorithm.
  local days = math.floor(seconds / 86400)
  local rest = seconds - days * 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day,
    math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60, micros)
end
local now_iso = iso(tonumber(time[1]), tonumber(time[2]))

-- What many jobs of one call write into the same keys is collected, and written once by `flush`, with which
-- every script ends: sorted sets, lists, counters. Hashes of jobs are written at once, because they are read.
local pending, counters = {ZADD = {}, ZREM = {}, RPUSH = {}}, {}

-- Jobs that this call has made final, for `release_dependents`: id, state, was (status before), ttl, ens.
local final = {}

local function later(command, key, first, second)
  local args = pending[command][key]
  if not args then
    args = {}
    pending[command][key] = args
  end
  args[#args + 1] = first
  if second then args[#args + 1] = second end
end

local function count(key, field, change)
  local changes = counters[key]
  if not changes then
    changes = {}
    counters[key] = changes
  end
  changes[field] = (changes[field] or 0) + change
end

local function flush()
  for command, keys in pairs(pending) do
    for key, args in pairs(keys) do
      for i = 1, #args, 4000 do  -- Lua cannot unpack more than some thousands
        redis.call(command, key, unpack(args, i, math.min(i + 3999, #args)))
      end
    end
  end
  for key, changes in pairs(counters) do
    for field, change in pairs(changes) do
      if change ~= 0 then redis.call('HINCRBY', key, field, change) end
    end
  end
end

-- cb:stats counts what an operator wants to know of all queues since the beginning: leases_lost, jobs_set_aside.

local function job_key(id) return 'rq:job:' .. id end
local function ens_key(ens) return 'cb:ens:' .. ens end

local function hash(key, ...)
  local names = {...}
  local values = redis.call('HMGET', key, ...)
  local result = {}
  for i, name in ipairs(names) do result[name] = values[i] or nil end
  return result
end

local function expire(key, ttl)
  if ttl < 0 then redis.call('PERSIST', key) else redis.call('EXPIRE', key, ttl) end
end

local function register(registry, queue, id, ttl)
  later('ZADD', 'rq:' .. registry .. ':' .. queue, ttl < 0 and INFINITE or now + ttl, id)
end

local JOB_FIELDS = {'status', 'cb_owner', 'cb_attempt', 'cb_ens', 'cb_index', 'cb_final', 'cb_entry', 'cb_fp',
  'data', 'timeout', 'result_ttl', 'failure_ttl', 'retries_left', 'retry_intervals', 'worker_name', 'cb_lost', 'cb_past'}
local function load_fields(id, fields)
  local values = redis.call('HMGET', 'rq:job:' .. id, unpack(fields))
  local job = {}
  for i = 1, #fields do job[fields[i]] = values[i] or nil end
  return job
end
local function load_job(id) return load_fields(id, JOB_FIELDS) end

-- RQ status of a final job: what its ensemble counts it as, and the registry it is in.
local COUNTER = {finished = 'finished', failed = 'failed', stopped = 'failed', canceled = 'cancelled'}
local REGISTRY = {finished = 'finished', failed = 'failed', stopped = 'failed', canceled = 'canceled'}

-- Ends the lease of a started job, whoever holds it.
local function unlease(queue, id, job)
  later('ZREM', 'cb:lease:' .. queue, id)
  if job.cb_owner then later('ZREM', 'rq:wip:' .. queue, id .. ':' .. job.cb_owner) end
  if job.cb_ens then count(ens_key(job.cb_ens), 'running', -1) end
end

-- What a job ran on is a JSON text, equal for all jobs of a worker with the same payload. Each ensemble numbers the
-- texts (cb:ens:<id>:provenance), and counts its records by number and state (cb:ens:<id>:ran). A record names the
-- number only if it is not 0, which is that of most: a million records are kept. NONE is the number of a record
-- whose job never started, or whose last attempt left no word about itself.
local NONE = ''
local numbers = {}
local function number_of(ens, provenance)
  if not provenance or provenance == '' then return NONE end
  local name = ens .. '\n' .. provenance
  if not numbers[name] then
    local key = ens_key(ens) .. ':provenance'
    local number = redis.call('HGET', key, provenance)
    if not number then
      number = tostring(redis.call('HLEN', key))
      redis.call('HSET', key, provenance, number)
    end
    numbers[name] = number
  end
  return numbers[name]
end

-- Counts a record, or with -1 its withdrawal, in the step that writes it.
local function count_record(ens, state, number, change)
  count(ens_key(ens), state, change)
  count(ens_key(ens) .. ':ran', number .. ':' .. state, change)
end

-- Takes back the record of a job that is final, because it is to run again.
local function unrecord(queue, id, job)
  for _, registry in pairs({'finished', 'failed', 'canceled'}) do
    redis.call('ZREM', 'rq:' .. registry .. ':' .. queue, id)
  end
  if job.cb_entry then
    local ens = ens_key(job.cb_ens)
    local entry = redis.call('XRANGE', ens .. ':results', job.cb_entry, job.cb_entry)[1]
    if entry then
      local fields = {ran = '0'}
      for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
      count_record(job.cb_ens, fields.state, fields.ran, -1)
      redis.call('XDEL', ens .. ':results', job.cb_entry)
    end
    local spec = hash(ens, 'queue', 'created_at')
    redis.call('ZADD', 'cb:open:' .. spec.queue, spec.created_at, job.cb_ens)
    if job.cb_fp and redis.call('HINCRBY', ens .. ':failures', job.cb_fp, -1) <= 0 then
      redis.call('HDEL', ens .. ':failures', job.cb_fp)
      redis.call('HDEL', ens .. ':examples', job.cb_fp)
    end
  end
  redis.call('HDEL', job_key(id), 'cb_final', 'cb_entry', 'cb_fp', 'cb_lost', 'cb_output', 'ended_at')
  redis.call('PERSIST', job_key(id))
end

-- Makes a job final and records it. The caller has checked that it may, and has ended its lease.
-- outcome: state (an RQ status), owner, node, started_ms, duration_ms, provenance (JSON), value (JSON), error,
-- fingerprint, rq_return and rq_exception (as rq:results holds them), output (compressed), repeats (whether it runs again).
local function record(queue, id, job, outcome)
  local key = job_key(id)
  local state = outcome.state
  local ttl
  if state == 'finished' then ttl = tonumber(job.result_ttl or result_ttl(job)) else ttl = tonumber(job.failure_ttl or FOREVER) end
  local fields = {'status', state, 'ended_at', now_iso, 'cb_final', outcome.owner or ''}
  if job.cb_ens then
    local ens = ens_key(job.cb_ens)
    local number = number_of(job.cb_ens, outcome.provenance)
    local entry = redis.call('XADD', ens .. ':results', '*', 'index', job.cb_index, 'job', id,
      'state', COUNTER[state], 'attempt', job.cb_attempt or 0, 'node', outcome.node or '',
      'started_ms', outcome.started_ms or 0, 'duration_ms', outcome.duration_ms or 0,
      'value', outcome.value or '', 'error', outcome.error or '', 'fingerprint', outcome.fingerprint or '',
      'data', job.data or '', unpack(number ~= '0' and {'ran', number} or {}))
    count_record(job.cb_ens, COUNTER[state], number, 1)
    fields[#fields + 1] = 'cb_entry'
    fields[#fields + 1] = entry
    if COUNTER[state] == 'failed' then
      redis.call('HINCRBY', ens .. ':failures', outcome.fingerprint, 1)
      redis.call('HSETNX', ens .. ':examples', outcome.fingerprint, id)
    end
  end
  if COUNTER[state] == 'failed' then
    fields[#fields + 1] = 'cb_fp'
    fields[#fields + 1] = outcome.fingerprint or ''
    if outcome.output and outcome.output ~= '' then
      fields[#fields + 1] = 'cb_output'
      fields[#fields + 1] = outcome.output
    end
  end
  if not job.cb_ens and (outcome.provenance or '') ~= '' then
    fields[#fields + 1] = 'cb_payload'
    fields[#fields + 1] = cjson.decode(outcome.provenance).payload
  end
  redis.call('HSET', key, unpack(fields))
  if state == 'canceled' then
    -- A stock tool that cancels takes the id out of the list, whatever cb_past says.
    if job.cb_past then redis.call('HDEL', key, 'cb_past') end
    register('canceled', queue, id, -1)
    return
  end
  final[#final + 1] = {id = id, state = state, was = job.status, ttl = ttl, ens = job.cb_ens}
  if ttl == 0 then
    if not outcome.repeats then redis.call('DEL', key, 'rq:results:' .. id) end
    return
  end
  register(REGISTRY[state], queue, id, ttl)
  local results = 'rq:results:' .. id
  if state == 'finished' then
    redis.call('XADD', results, 'MAXLEN', 10, '*', 'type', 1, 'return_value', outcome.rq_return,
      'worker_name', job.worker_name or '')
  else
    redis.call('XADD', results, 'MAXLEN', 10, '*', 'type', 2, 'exc_string', outcome.rq_exception or '',
      'worker_name', job.worker_name or '')
  end
  expire(results, ttl)
  expire(key, ttl)
end

-- Sorts ids of jobs that are to come back, the last one first: pushed to the head one by one, they lie there in
-- the order of their ensembles. Leases that were made or extended together have no order of their own.
local function last_first(ids)
  local group, key = {}, {}
  for place, id in ipairs(ids) do
    local ens, index = string.match(id, '^(.+)%-(%d+)$')
    ens = ens or id
    group[ens] = group[ens] or place
    key[id] = {group[ens], tonumber(index or 0)}
  end
  table.sort(ids, function(a, b)
    if key[a][1] ~= key[b][1] then return key[a][1] < key[b][1] end
    return key[a][2] > key[b][2]
  end)
  return ids
end

-- Puts the id of a job that waits into the list, with LPUSH or RPUSH, unless it has stayed there (past.lua).
local function enlist(queue, id, job, push)
  local looked = job.cb_ens and redis.call('HGET', ens_key(job.cb_ens), 'looked')
  if looked and tonumber(looked) > tonumber(job.cb_index) then
    redis.call('HSET', ens_key(job.cb_ens), 'looked', job.cb_index)
  end
  if not job.cb_past then redis.call(push, 'rq:queue:' .. queue, id) end
end

-- Puts a job that is not final at the head of the queue.
local function to_head(queue, id, job)
  redis.call('HSET', job_key(id), 'status', 'queued')
  redis.call('HDEL', job_key(id), 'cb_owner')
  enlist(queue, id, job, 'LPUSH')
end

-- A job lost its worker or executor: back to the head of the queue, or set aside once it has lost
-- `limit` of them. Returns whether it was set aside. `exception` is what rq:results holds.
local function lose(queue, id, job, limit, reason, outcome)
  unlease(queue, id, job)
  if tonumber(job.cb_attempt or 1) < limit then
    redis.call('HSET', job_key(id), 'cb_lost', reason)
    to_head(queue, id, job)
    return false
  end
  outcome.state = 'failed'
  outcome.owner = job.cb_owner
  outcome.error = reason .. ' (attempt ' .. job.cb_attempt .. ' of ' .. limit .. ': set aside)'
  record(queue, id, job, outcome)
  count('cb:stats', 'jobs_set_aside', 1)
  return true
end

-- The limit of attempts of a job: its ensemble's, or the given default.
local function attempt_limit(job, default)
  local limit = job.cb_ens and redis.call('HGET', ens_key(job.cb_ens), 'max_attempts')
  return tonumber(limit or default)
end
