-- Extends the leases of one worker.
-- Invariant: a lease is extended only for its owner; one that is gone or another's is reported as lost.
-- ARGV: queue, lease in seconds, then pairs of id and owner. Returns the ids that are lost.
local queue, lease = ARGV[1], number_at(2)
local leases = 'cb:lease:' .. queue
local lost = {}
for i = 3, #ARGV, 2 do
  local id, owner = ARGV[i], ARGV[i + 1]
  if read('HGET', job_key(id), 'cb_owner') == owner and read('ZSCORE', leases, id) then
    later('ZADD', leases, string.format('%.6f', now + lease), id)
  else
    lost[#lost + 1] = id
    -- Nobody else can know this entry, if the job was deleted.
    later('ZREM', 'rq:wip:' .. queue, id .. ':' .. owner)
  end
end
flush()
return lost
