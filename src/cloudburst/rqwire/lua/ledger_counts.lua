-- What an ensemble's counters say, beside what can be counted in the same step. Changes nothing.
-- Invariant: as many records as jobs are counted as ended, and as are counted by what they ran on; as many leases as
-- are counted as running.
-- ARGV: ensemble. Returns state, queue, submitted, finished, failed, cancelled, running, number of records,
-- entry of the last record, leases of its jobs, and how many records are counted by what they
-- ran on; nothing if there is no such ensemble.
local ens = ARGV[1]
local spec = ensemble(ens)
if not spec then return {} end
local answer = {spec.state, spec.queue, spec.submitted, spec.finished, spec.failed, spec.cancelled, spec.running}
local results = ens_key(ens) .. ':results'
answer[8] = read('XLEN', results) or 0
local last = (read('XREVRANGE', results, '+', '-', 'COUNT', 1) or {})[1]
answer[9] = last and last[1] or '0-0'
local prefix, leases = ens .. '-', 0
for _, id in ipairs(read('ZRANGE', 'cb:lease:' .. answer[2], 0, -1) or {}) do
  if string.sub(id, 1, #prefix) == prefix and string.find(id, '^%d+$', #prefix + 1) then leases = leases + 1 end
end
answer[10] = leases
answer[11] = 0
for _, number in ipairs(read('HVALS', ens_key(ens) .. ':ran') or {}) do
  answer[11] = answer[11] + (whole(number, -MOST, MOST) or 0)
end
return answer
