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

--
-- A script reads and checks first, and notes what is to be written; `flush`, with which every script that writes ends,
-- writes it. Nothing that a key holds makes reading fail (`read`, `load`, `ensemble`), and `flush` makes sure that no
-- write can: so a script writes all of what it means to, or nothing. What was noted is not there to be read before
-- the end; `load` returns the same table for the same job, in which scripts note the job's new state, too.
--
-- What comes from outside becomes typed in `load` and `ensemble`, and nowhere else. A number there is a whole number
-- within bounds, or it counts as missing, and `malformed` of the job says why: whoever claims it lets it fail.

redis.replicate_commands()  -- Redis 6.2: allows writes after TIME; from 7.0 on always so
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local FOREVER = 365 * 24 * 3600
local INFINITE = '+inf'
local DEFAULT_TIMEOUT = 180  -- seconds, of RQ's queues
local MOST = 1e15  -- of any number: Lua and Redis write it in digits

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

-- Reading

-- As redis.call; nil where the key is of another type.
local function read(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return nil end
  return redis.call(...)  -- which raises what is wrong
end

local function kind_of(key) return redis.call('TYPE', key).ok end

-- A whole number, or nil.
local function whole(text, least, most)
  if not text or #text > 16 or not string.find(text, '^%-?%d+$') then return nil end
  local number = tonumber(text) + 0  -- not -0, which Redis would not read
  return number >= least and number <= most and number or nil
end

-- An argument of the script that has to be a number, from 0.
local function number_at(i)
  local number = tonumber(ARGV[i])
  if not number or number ~= number or number < 0 or number > MOST then
    error('argument ' .. i .. ' should be a number, got ' .. string.sub(tostring(ARGV[i]), 1, 40))
  end
  return number
end

local function is_entry(text)
  return text and string.find(text, '^%d+%-%d+$') and #text <= 32 and #string.match(text, '^%d+') <= 16 and text
end

local function shown(text)
  text = string.gsub(string.sub(text, 1, 40), '[^\32-\126]', function(byte)
    return string.format('\\x%02x', string.byte(byte))
  end)
  return "'" .. text .. "'"
end

local function job_key(id) return 'rq:job:' .. id end
local function ens_key(ens) return 'cb:ens:' .. ens end

local known = {}  -- keys of which this call has seen that they can be written to as what they should be

local ENSEMBLE_TEXTS = {'state', 'payload', 'error', 'queue', 'digest', 'seed', 'sealed', 'created_at'}
local ENSEMBLE_NUMBERS = {'submitted', 'running', 'finished', 'failed', 'cancelled', 'looked', 'max_attempts',
  'retries', 'timeout'}
local ensembles = {}

-- What an ensemble is; nil if there is none of that name.
local function ensemble(ens)
  if ensembles[ens] ~= nil then return ensembles[ens] or nil end
  local values = read('HMGET', ens_key(ens), 'state', 'payload', 'error', 'queue', 'digest', 'seed', 'sealed',
    'created_at', unpack(ENSEMBLE_NUMBERS))
  local found = values and values[1] and {}
  if found then
    for i, name in ipairs(ENSEMBLE_TEXTS) do found[name] = values[i] or nil end
    for i, name in ipairs(ENSEMBLE_NUMBERS) do found[name] = whole(values[#ENSEMBLE_TEXTS + i], -1, MOST) end
    for i = 1, 5 do found[ENSEMBLE_NUMBERS[i]] = found[ENSEMBLE_NUMBERS[i]] or 0 end
    if not string.find(string.sub(found.created_at or '', 1, 20), '^%d+%.?%d*$') then found.created_at = '0' end
    found.queue = found.queue or 'default'
    found.key = ens_key(ens)
    found.results, found.ran, found.failures = found.key .. ':results', found.key .. ':ran', found.key .. ':failures'
    known[found.key] = 'hash'
  end
  ensembles[ens] = found or false
  return found or nil
end

local JOB_FIELDS = {'status', 'cb_owner', 'cb_attempt', 'cb_ens', 'cb_index', 'cb_final', 'cb_entry', 'cb_fp',
  'data', 'timeout', 'result_ttl', 'failure_ttl', 'retries_left', 'retry_intervals', 'worker_name', 'cb_lost', 'cb_past',
  place = true}

local STATUSES = {queued = true, started = true, deferred = true, scheduled = true, finished = true, failed = true,
  stopped = true, canceled = true, created = true}
local SECONDS = {what = 'whole seconds', least = -1, most = 1e9}
local COUNT = {what = 'a whole number', least = -1, most = MOST}
local OURS = {least = 0, most = MOST}  -- what is none counts as missing
local NUMBERS = {timeout = SECONDS, result_ttl = SECONDS, failure_ttl = SECONDS, ttl = SECONDS,
  success_callback_timeout = SECONDS, failure_callback_timeout = SECONDS, stopped_callback_timeout = SECONDS,
  retries_left = COUNT, repeats_left = COUNT, cb_index = OURS, cb_attempt = OURS,
  cb_expires = OURS}

-- Says what is wrong with a job; the first thing counts.
local function malform(job, what)
  job.malformed = job.malformed or what
end

local function malform_number(job, name, value)
  local bounds = NUMBERS[name]
  local most = whole(value, -MOST, 9 * MOST) and string.format(' from %d to %.0f', bounds.least, bounds.most) or ''
  malform(job, name .. ': should be ' .. bounds.what .. most .. ', got ' .. shown(value))
end

-- A hash without a status that there is, or no hash. Where an id is found says what becomes of it, as in stock RQ.
local function odd(id, job, reply)
  local key = job_key(id)
  if not reply then
    known[key] = nil  -- it is replaced when it is written to
    local ens, index = string.match(id, '^(.+)%-(%d+)$')
    -- Nobody knows whether a job of an ensemble has a record already: the audit does.
    if ens and ensemble(ens) and whole(index, 0, ensemble(ens).submitted - 1) then return end
    malform(job, key .. ': should be a hash, is a ' .. kind_of(key))
    job.status = 'queued'
  elseif job.status or redis.call('EXISTS', key) == 1 then
    local marks = redis.call('HMGET', key, 'cb_owner', 'cb_final')
    if not marks[2] then job.status = marks[1] and 'started' or 'queued' end
  end
end

-- Which ensemble a job is of, its id says; its hash has to say the same.
local function belong(id, job)
  local ens, index = job.cb_ens, job.cb_index
  local found = ens and index and ens .. '-' .. index == id and ensemble(ens)
  if found and index >= 0 and index < found.submitted then return end
  local text
  ens, text = string.match(id, '^(.+)%-(%d+)$')
  found = ens and ensemble(ens)
  index = found and whole(text, 0, found.submitted - 1)
  if index and string.format('%.0f', index) == text then
    if job.cb_ens ~= ens then malform(job, 'cb_ens: should be ' .. shown(ens)) end
    if job.cb_index ~= index then malform(job, 'cb_index: should be ' .. text) end
    job.cb_ens, job.cb_index = ens, index
  elseif job.cb_ens then
    malform(job, 'cb_ens: no ensemble ' .. shown(job.cb_ens) .. ' has this job')
    job.cb_ens, job.cb_index = nil, nil
  end
end

local jobs, NOTHING = {}, {}

-- Some fields of a job: numbers as numbers; `malformed`, if something is wrong with them; none for a job that there is
-- not. A list of fields with `place` has cb_ens and cb_index, which are there only if the job is one of that ensemble.
local function load(id, fields)
  local job, before = jobs[id], NOTHING
  if job then
    before = {}
    for _, list in ipairs(job.loaded) do
      if list == fields then return job end
      for _, name in ipairs(list) do before[name] = true end
    end
  end
  local key = 'rq:job:' .. id
  local values = read('HMGET', key, unpack(fields))
  if job then
    job.loaded[#job.loaded + 1] = fields
  else
    job = {loaded = {fields}}
    jobs[id] = job
    known[key] = 'hash'
  end
  for i = 1, values and #fields or 0 do
    local name, value = fields[i], values[i]
    if value and not before[name] then  -- else it is there already, as this call has left it
      local bounds = NUMBERS[name]
      if not bounds then
        job[name] = value
      else
        job[name] = whole(value, bounds.least, bounds.most)
        if not job[name] and bounds.what and value ~= '' then malform_number(job, name, value) end
      end
    end
  end
  if fields[1] == 'status' and not STATUSES[job.status] and not before.status then odd(id, job, values) end
  if fields.place and job.status and not before.cb_ens then belong(id, job) end
  if job.cb_entry and not is_entry(job.cb_entry) then job.cb_entry = nil end
  return job
end
local function load_job(id) return load(id, JOB_FIELDS) end

-- Writing

local TYPES = {HSET = 'hash', HDEL = 'hash', HSETNX = 'hash', ZADD = 'zset', ZREM = 'zset', ZREMRANGEBYSCORE = 'zset',
  LPUSH = 'list', RPUSH = 'list', LTRIM = 'list', SADD = 'set', SREM = 'set', PFADD = 'string',
  XADD = 'stream', XDEL = 'stream'}

-- What is to be written: records first, then single commands in their order, then what many jobs of one call write
-- into the same keys (sorted sets, lists), then the counters.
local records, notes, pending, counters = {}, {}, {ZADD = {}, ZREM = {}, LPUSH = {}, RPUSH = {}}, {}

-- Jobs that this call has made final, for `release_dependents`: id, state, was (status before), ttl, ens.
local final = {}

local function write(...) notes[#notes + 1] = {...} end

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

-- Counts a record, or with -1 its withdrawal, in the step that writes it.
local function count_record(spec, state, number, fingerprint, change)
  count(spec.key, state, change)
  count(spec.ran, number .. ':' .. state, change)
  if fingerprint then count(spec.failures, fingerprint, change) end
end

local function in_slices(command, key, args)
  for i = 1, #args, 4000 do  -- Lua cannot unpack more than some thousands
    redis.call(command, key, unpack(args, i, math.min(i + 3999, #args)))
  end
end

-- Whatever lies where one of our keys should be, and is of another type, cannot be read by anybody: it goes.
local function make_room()
  local wrong = {}
  local function look(key, kind)
    if not kind or known[key] == kind then return end
    known[key] = kind
    local there = kind_of(key)
    if there ~= kind and there ~= 'none' then wrong[#wrong + 1] = key end
  end
  for _, note in ipairs(notes) do look(note[2], TYPES[note[1]]) end
  for _, one in ipairs(records) do
    look(one[1], 'stream')
    look(one.spec.ran, 'hash')
    if one.fingerprint then look(one.spec.failures, 'hash') end
    if one.job then look(one.job, 'hash') end
  end
  for command, keys in pairs(pending) do
    for key in pairs(keys) do look(key, TYPES[command]) end
  end
  for key in pairs(counters) do look(key, 'hash') end
  for _, key in ipairs(wrong) do redis.call('DEL', key) end
end

-- One after another, because the job's hash names the entry. Adding one fails if somebody has taken the last id that
-- a stream can have: then this job has no record, which the audit tells, and all else goes on.
local function write_records()
  for _, one in ipairs(records) do
    local entry = redis.pcall('XADD', unpack(one))
    local added = type(entry) == 'string'
    if added then count_record(one.spec, one.state, one.number, one.fingerprint, 1) end
    if one.job then
      if one.clean then redis.call('DEL', one.job) end
      redis.call('HSET', one.job, 'cb_entry', added and entry or '', unpack(one.fields))
    end
  end
end

local function write_notes()
  for _, note in ipairs(notes) do
    if note[1] == 'XADD' then
      local entry = redis.pcall(unpack(note))
      if type(entry) == 'table' then  -- as above; but this stream is the job's own
        redis.call('DEL', note[2])
        redis.call(unpack(note))
      end
    else
      redis.call(unpack(note))
    end
  end
end

-- A counter that is no number counts as 0: the audit counts again.
local function write_counters()
  for key, changes in pairs(counters) do
    local names, sums = {}, {}
    for name, change in pairs(changes) do
      if change ~= 0 then names[#names + 1] = name end
    end
    local there = #names > 0 and redis.call('HMGET', key, unpack(names))
    for i, name in ipairs(names) do
      local sum = tonumber(there[i] or 0) or 0
      if not (sum > -MOST and sum < MOST) then sum = 0 end
      sum = sum + changes[name]
      if sum <= 0 and string.sub(key, -9) == ':failures' then
        redis.call('HDEL', key, name)
        redis.call('HDEL', string.sub(key, 1, -9) .. 'examples', name)
      else
        sums[#sums + 1] = name
        sums[#sums + 1] = string.format(sum % 1 == 0 and '%.0f' or '%.6f', sum)
      end
    end
    if #sums > 0 then redis.call('HSET', key, unpack(sums)) end
  end
end

local function flush()
  make_room()
  write_records()
  write_notes()
  for command, keys in pairs(pending) do
    for key, args in pairs(keys) do in_slices(command, key, args) end
  end
  write_counters()
end

-- cb:stats counts what an operator wants to know of all queues since the beginning: leases_lost, jobs_set_aside.

local function expire(key, ttl)
  if ttl < 0 then write('PERSIST', key) else write('EXPIRE', key, ttl) end
end

-- Stock tools read ids as text: others are left out of what they read.
local function register(registry, queue, id, ttl)
  if string.find(id, '[^\32-\126]') then return end
  later('ZADD', 'rq:' .. registry .. ':' .. queue, ttl < 0 and INFINITE or now + ttl, id)
end

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
local numbers, new_numbers = {}, {}
local function number_of(ens, provenance)
  if not provenance or provenance == '' then return NONE end
  local name = ens .. '\n' .. provenance
  if not numbers[name] then
    local key = ens_key(ens) .. ':provenance'
    local number = read('HGET', key, provenance)
    if not number then
      new_numbers[ens] = (new_numbers[ens] or read('HLEN', key) or 0) + 1
      number = tostring(new_numbers[ens] - 1)
      write('HSET', key, provenance, number)
    end
    numbers[name] = number
  end
  return numbers[name]
end

-- Notes the record of a job that becomes final. Returns it: `job` may name the hash where `fields` are written in the
-- same step, `clean` that nothing else is to be left there.
local function enter(ens, index, id, state, outcome)
  local number, spec = number_of(ens, outcome.provenance), ensemble(ens)
  local entry = {spec.results, '*', 'index', index, 'job', id, 'state', state, 'attempt', outcome.attempt or 0, 'node', outcome.node or '',
    'started_ms', outcome.started_ms or 0, 'duration_ms', outcome.duration_ms or 0, 'value', outcome.value or '',
    'error', outcome.error or '', 'fingerprint', outcome.fingerprint or '', 'data', outcome.data or ''}
  if number ~= '0' then
    entry[#entry + 1] = 'ran'
    entry[#entry + 1] = number
  end
  local fingerprint = state == 'failed' and (outcome.fingerprint or '') or nil
  if fingerprint then write('HSETNX', spec.key .. ':examples', fingerprint, id) end
  entry.spec, entry.state, entry.number, entry.fingerprint = spec, state, number, fingerprint
  records[#records + 1] = entry
  return entry
end

local function add_all(list, more)
  for _, one in ipairs(more) do list[#list + 1] = one end
end

-- All that is left in the hash of a malformed job, because stock tools could not read it otherwise.
local function clean_fields(queue, id, job)
  local created_at = read('HGET', job_key(id), 'created_at')
  if not string.find(created_at or '', '^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d+Z$') then created_at = now_iso end
  local fields = {'origin', queue, 'created_at', created_at, 'data', job.data or '', 'worker_name', job.worker_name or '',
    'cb_attempt', job.cb_attempt or 0}
  if job.cb_ens then
    add_all(fields, {'cb_ens', job.cb_ens, 'cb_index', job.cb_index, 'timeout', ensemble(job.cb_ens).timeout or -1})
  end
  return fields
end

-- Takes back the record of a job that is final, because it is to run again.
local function unrecord(queue, id, job)
  for _, registry in ipairs({'finished', 'failed', 'canceled'}) do
    later('ZREM', 'rq:' .. registry .. ':' .. queue, id)
  end
  if job.cb_entry and job.cb_ens then
    local ens = ens_key(job.cb_ens)
    local entry = (read('XRANGE', ens .. ':results', job.cb_entry, job.cb_entry) or {})[1]
    local fields = {ran = '0'}
    for i = 1, entry and #entry[2] or 0, 2 do fields[entry[2][i]] = entry[2][i + 1] end
    if fields.job == id then
      for _, state in pairs(COUNTER) do
        if fields.state == state then
          count_record(ensemble(job.cb_ens), state, fields.ran, state == 'failed' and fields.fingerprint, -1)
          break
        end
      end
      write('XDEL', ens .. ':results', job.cb_entry)
    end
    local spec = ensemble(job.cb_ens)
    write('ZADD', 'cb:open:' .. spec.queue, spec.created_at, job.cb_ens)
  end
  write('HDEL', job_key(id), 'cb_final', 'cb_entry', 'cb_fp', 'cb_lost', 'cb_output', 'ended_at')
  write('PERSIST', job_key(id))
  job.cb_final, job.cb_entry = nil, nil
end

-- Makes a job final and records it. The caller has checked that it may, and has ended its lease.
-- outcome: state (an RQ status), owner, node, started_ms, duration_ms, provenance (JSON), value (JSON), error,
-- fingerprint, rq_return and rq_exception (as rq:results holds them), output (compressed), repeats (whether it runs again).
-- Of a job of an ensemble that has finished, the record is all that there is of its value.
local function record(queue, id, job, outcome)
  local key = job_key(id)
  local state = outcome.state
  local counted = COUNTER[state]
  local ttl
  if state == 'finished' then ttl = job.result_ttl or result_ttl(job) else ttl = job.failure_ttl or FOREVER end
  local clean = job.malformed and counted == 'failed'
  local fields = {'status', state, 'ended_at', now_iso, 'cb_final', outcome.owner or ''}
  if clean then add_all(fields, clean_fields(queue, id, job)) end
  if counted == 'failed' then
    add_all(fields, {'cb_fp', outcome.fingerprint or ''})
    if (outcome.output or '') ~= '' then add_all(fields, {'cb_output', outcome.output}) end
  end
  if job.cb_ens then
    outcome.attempt, outcome.data = job.cb_attempt, job.data
    local entry = enter(job.cb_ens, job.cb_index, id, counted, outcome)
    entry.job, entry.fields, entry.clean = key, fields, clean
  else
    if clean then write('DEL', key) end
    local known_payload, ran = pcall(cjson.decode, outcome.provenance or '')
    if known_payload and type(ran) == 'table' and type(ran.payload) == 'string' then
      add_all(fields, {'cb_payload', ran.payload})
    end
    write('HSET', key, unpack(fields))
  end
  local was = job.status
  job.status, job.cb_final, job.cb_owner = state, outcome.owner or '', nil
  if state == 'canceled' then
    -- A stock tool that cancels takes the id out of the list, whatever cb_past says.
    if job.cb_past then write('HDEL', key, 'cb_past') end
    register('canceled', queue, id, -1)
    return
  end
  final[#final + 1] = {id = id, state = state, was = was, ttl = ttl, ens = job.cb_ens}
  local results = 'rq:results:' .. id
  if ttl == 0 then
    if not outcome.repeats then write('DEL', key, results) end
    return
  end
  register(REGISTRY[state], queue, id, ttl)
  if counted == 'failed' then
    write('XADD', results, 'MAXLEN', 10, '*', 'type', 2, 'exc_string', outcome.rq_exception or '',
      'worker_name', job.worker_name or '')
    expire(results, ttl)
  elseif not job.cb_ens then
    write('XADD', results, 'MAXLEN', 10, '*', 'type', 1, 'return_value', outcome.rq_return or '',
      'worker_name', job.worker_name or '')
    expire(results, ttl)
  end
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
  local found = job.cb_ens and ensemble(job.cb_ens)
  if found and found.looked and found.looked > job.cb_index then
    found.looked = job.cb_index
    write('HSET', ens_key(job.cb_ens), 'looked', job.cb_index)
  end
  if not job.cb_past then write(push, 'rq:queue:' .. queue, id) end
  job.status = 'queued'
end

-- Puts a job that is not final at the head of the queue.
local function to_head(queue, id, job)
  write('HSET', job_key(id), 'status', 'queued')
  write('HDEL', job_key(id), 'cb_owner')
  job.cb_owner = nil
  enlist(queue, id, job, 'LPUSH')
end

-- A job lost its worker or executor: back to the head of the queue, or set aside once it has lost
-- `limit` of them. Returns whether it was set aside. `exception` is what rq:results holds.
local function lose(queue, id, job, limit, reason, outcome)
  unlease(queue, id, job)
  if (job.cb_attempt or 1) < limit then
    write('HSET', job_key(id), 'cb_lost', reason)
    to_head(queue, id, job)
    return false
  end
  outcome.state = 'failed'
  outcome.owner = job.cb_owner
  outcome.error = reason .. ' (attempt ' .. (job.cb_attempt or 1) .. ' of ' .. limit .. ': set aside)'
  record(queue, id, job, outcome)
  count('cb:stats', 'jobs_set_aside', 1)
  return true
end

-- The limit of attempts of a job: its ensemble's, or the given default.
local function attempt_limit(job, default)
  return job.cb_ens and ensemble(job.cb_ens).max_attempts or default
end
