-- Puts one job into the one place where it has to be, or shows what that takes. A job that is right is left alone.
-- Invariant: a job that has a record is final, and its other records go; one that has none goes on, wherever it was. So
-- this may be repeated, and be done while jobs run.
-- ARGV: queue, id, write (1) or show only (0), also search the list (1 or 0), last record that the caller has looked at
-- ('' for a stock job), then those of this job. Returns what is done, as texts; or "again": look at the records again.
local queue, id, writing, search, last = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4] == '1', ARGV[5]
local job = load_job(id)
local key, list, leases, wip = job_key(id), 'rq:queue:' .. queue, 'cb:lease:' .. queue, 'rq:wip:' .. queue
local scheduled, deferred = 'rq:scheduled:' .. queue, 'rq:deferred:' .. queue
local ens, text = string.match(id, '^(.+)%-(%d+)$')
local spec = ens and ensemble(ens)
local index = spec and whole(text, 0, spec.submitted - 1)
local done = {}
local function say(what) done[#done + 1] = what end

-- Its records, those that came meanwhile too.
local entries, states = {}, {}
local function look(entry)
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  if fields.job == id and (fields.state == 'finished' or fields.state == 'failed' or fields.state == 'cancelled') then
    entries[#entries + 1] = entry[1]
    states[entry[1]] = fields.state
  end
end
if index then
  for i = 6, #ARGV do
    for _, entry in ipairs(read('XRANGE', spec.results, ARGV[i], ARGV[i]) or {}) do look(entry) end
  end
  local later_ones = read('XRANGE', spec.results, '(' .. last, '+', 'COUNT', 2000) or {}
  if #later_ones == 2000 then return {'again'} end
  for _, entry in ipairs(later_ones) do look(entry) end
end
local kept = states[job.cb_entry] and job.cb_entry or entries[1]
for _, entry in ipairs(entries) do
  if entry ~= kept then
    write('XDEL', spec.results, entry)
    say('remove record ' .. entry .. ', keep ' .. kept)
  end
end

local lease = read('ZSCORE', leases, id)
local listed = search and #(read('LPOS', list, id, 'COUNT', 2) or {}) or 1
if search and listed == 0 then listed = #(read('LPOS', list .. ':intermediate', id, 'COUNT', 1) or {}) end
local stock_holds = false
for _, entry in ipairs(read('ZRANGE', wip, 0, -1) or {}) do
  local of, owner = string.match(entry, '^(.*):([^:]*)$')
  if of == id then
    if read('ZSCORE', wip, entry) ~= 'inf' then
      stock_holds = true  -- that of a stock worker has a deadline
    elseif owner ~= job.cb_owner or not lease or job.status ~= 'started' then
      write('ZREM', wip, entry)
      say('remove ' .. entry .. ' from rq:wip')
    end
  end
end
local function release()
  if lease then
    write('ZREM', leases, id)
    say('remove its lease')
  end
end

local final = COUNTER[job.status]
local goes_on = not final and not (job.status == 'queued' and job.cb_final)  -- by a stock client, see claim.lua
if kept then
  if job.status and goes_on then
    local status = ({finished = 'finished', failed = 'failed', cancelled = 'canceled'})[states[kept]]
    release()
    write('HSET', key, 'status', status, 'cb_entry', kept, 'cb_final', 'repaired', 'ended_at', now_iso)
    write('ZREM', scheduled, id)
    write('ZREM', deferred, id)
    local ttl = status == 'finished' and result_ttl(job) or FOREVER
    register(REGISTRY[status], queue, id, status == 'canceled' and -1 or ttl)
    if status ~= 'canceled' then write('EXPIRE', key, ttl) end
    say('make it ' .. status .. ', as its record says')
  elseif final then
    release()
  end
elseif not job.status then
  if listed > 0 and search then
    write('LREM', list, 0, id)
    say('remove its id from the list')
  end
  if lease and not index then
    release()
  elseif index and not lease then
    enter(ens, index, id, 'cancelled', {error = 'lost: nothing was left of the job but its id'})
    say('record it as cancelled: nothing is left of it')
  end
elseif final and job.cb_ens and (job.status ~= 'canceled' or job.cb_final) then
  release()
  unrecord(queue, id, job)
  write('HDEL', key, 'cb_attempt', 'cb_past')
  write('HSET', key, 'status', 'queued', 'enqueued_at', now_iso)
  if listed == 0 or not search then write('RPUSH', list, id) end
  say('run it again: it has ended as ' .. job.status .. ', and has no record')
elseif final then
  if job.status ~= 'canceled' then release() end
elseif job.status == 'started' then
  if lease and job.cb_owner then
    if not read('ZSCORE', wip, id .. ':' .. job.cb_owner) then
      write('ZADD', wip, INFINITE, id .. ':' .. job.cb_owner)
      say('add it to rq:wip')
    end
  elseif not stock_holds then
    release()
    job.cb_past = nil
    to_head(queue, id, job)
    write('HDEL', key, 'cb_past')
    say('run it again: nobody has a lease of it')
  end
else
  release()
  if job.status == 'queued' and listed == 0 then
    write('RPUSH', list, id)
    write('HDEL', key, 'cb_past')
    say('put it into the list')
  elseif job.status == 'queued' and listed > 1 then
    write('LREM', list, -1, id)
    say('remove its id from the list once')
  elseif job.status == 'scheduled' and not read('ZSCORE', scheduled, id) then
    write('ZADD', scheduled, now, id)
    say('put it into rq:scheduled, to run now')
  elseif job.status == 'deferred' and not read('ZSCORE', deferred, id) then
    write('ZADD', deferred, INFINITE, id)
    say('put it into rq:deferred')
  end
end
if writing then flush() end
return done
