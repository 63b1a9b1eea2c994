-- Makes the counters of an ensemble those that its records and leases say, or shows what that takes.
-- Invariant: the records that the caller has counted are all that there were up to the last of them, or nothing changes.
-- ARGV: ensemble, write (1) or show only (0), last record counted, how many entries up to it; then per kind: state, what
-- it ran on, fingerprint, how many, a job. Returns what is done, as texts; or "again": count again.
local ens, writing, last, number = ARGV[1], ARGV[2] == '1', ARGV[3], number_at(4)
local spec = ensemble(ens)
if not spec then return {} end
local states, ran, failures, examples = {finished = 0, failed = 0, cancelled = 0}, {}, {}, {}
local function tally(state, on, fingerprint, count_, job)
  states[state] = states[state] + count_
  ran[on .. ':' .. state] = (ran[on .. ':' .. state] or 0) + count_
  if state == 'failed' then
    failures[fingerprint] = (failures[fingerprint] or 0) + count_
    examples[fingerprint] = examples[fingerprint] or job
  end
end
for i = 5, #ARGV, 5 do tally(ARGV[i], ARGV[i + 1], ARGV[i + 2], number_at(i + 3), ARGV[i + 4]) end
local newer = read('XRANGE', spec.results, '(' .. last, '+', 'COUNT', 2000) or {}
if #newer == 2000 or (read('XLEN', spec.results) or 0) ~= number + #newer then return {'again'} end
for _, entry in ipairs(newer) do
  local fields = {ran = '0'}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  if states[fields.state] then tally(fields.state, fields.ran, fields.fingerprint or '', 1, fields.job or '') end
end

local done = {}
local running, prefix = 0, ens .. '-'
for _, id in ipairs(read('ZRANGE', 'cb:lease:' .. spec.queue, 0, -1) or {}) do
  if string.sub(id, 1, #prefix) == prefix and string.find(id, '^%d+$', #prefix + 1) then running = running + 1 end
end
states.running = running
for _, name in ipairs({'running', 'finished', 'failed', 'cancelled'}) do
  local there = redis.call('HGET', spec.key, name) or '0'
  if there ~= tostring(states[name]) then
    write('HSET', spec.key, name, states[name])
    done[#done + 1] = name .. ': ' .. states[name] .. ' instead of ' .. shown(there)
  end
end

-- A hash of counters becomes `right`; `job` is said of each that was wrong.
local function become(key, right, what)
  local there = {}
  local flat = read('HGETALL', key) or {}
  for i = 1, #flat, 2 do there[flat[i]] = flat[i + 1] end
  local wrong = 0
  for name, value in pairs(right) do
    if there[name] ~= tostring(value) then
      write('HSET', key, name, value)
      wrong = wrong + 1
    end
  end
  for name, value in pairs(there) do
    if not right[name] and value ~= '0' then
      write('HDEL', key, name)
      wrong = wrong + 1
    end
  end
  if wrong > 0 then done[#done + 1] = wrong .. ' ' .. what end
end
become(spec.ran, ran, 'counts of what records ran on')
become(spec.failures, failures, 'counts of kinds of failures')
local flat, right = read('HGETALL', spec.key .. ':examples') or {}, {}
for i = 1, #flat, 2 do
  if examples[flat[i]] and read('HGET', job_key(flat[i + 1]), 'cb_fp') == flat[i] then right[flat[i]] = flat[i + 1] end
end
for fingerprint, job in pairs(examples) do right[fingerprint] = right[fingerprint] or job end
become(spec.key .. ':examples', right, 'examples of kinds of failures')

local open = 'cb:open:' .. spec.queue
local ended = states.finished + states.failed + states.cancelled >= spec.submitted and spec.state ~= 'submitting'
if ended then
  write('ZREM', open, ens)  -- which is nothing to tell: open.lua does the same when it comes by
elseif not read('ZSCORE', open, ens) then
  write('ZADD', open, spec.created_at, ens)
  done[#done + 1] = 'open: jobs of it wait or run'
end
if writing then flush() end
return done
