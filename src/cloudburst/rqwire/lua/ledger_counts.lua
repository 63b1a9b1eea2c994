-- What an ensemble's counters say, beside what can be counted in the same step. Changes nothing.
-- Invariant: as many records as jobs are counted as ended, and as are counted by what they ran on; as many leases as
-- are counted as running.
-- ARGV: ensemble. Returns state, queue, submitted, finished, failed, cancelled, running, number of records,
-- entry of the last record, leases of its jobs, and how many records are counted by what they
-- ran on; nothing if there is no such ensemble.
local ens = ARGV[1]
local found = redis.call('HMGET', ens_key(ens), 'state', 'queue', 'submitted', 'finished', 'failed', 'cancelled',
  'running')
if not found[1] then return {} end
local answer = {found[1], found[2] or ''}
for i = 3, 7 do answer[i] = tonumber(found[i] or 0) end
local results = ens_key(ens) .. ':results'
answer[8] = redis.call('XLEN', results)
local last = redis.call('XREVRANGE', results, '+', '-', 'COUNT', 1)[1]
answer[9] = last and last[1] or '0-0'
local prefix, leases = ens .. '-', 0
for _, id in ipairs(redis.call('ZRANGE', 'cb:lease:' .. answer[2], 0, -1)) do
  if string.sub(id, 1, #prefix) == prefix and string.find(id, '^%d+$', #prefix + 1) then leases = leases + 1 end
end
answer[10] = leases
answer[11] = 0
for _, number in ipairs(redis.call('HVALS', ens_key(ens) .. ':ran')) do answer[11] = answer[11] + tonumber(number) end
return answer
