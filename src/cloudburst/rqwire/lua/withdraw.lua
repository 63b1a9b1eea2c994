-- Removes from one end of the queue's list the ids of an ensemble whose jobs are final, so that its length tells
-- the truth; a slice at a time, because all of a list of a million would take Redis seconds.
-- Invariant: only ids whose jobs are not `queued` are removed; the order of the others stays.
-- ARGV: ensemble, end (head or tail), how many ids between that end and the slice have been kept, slice.
-- Returns how many were removed, and how many of the slice were kept; 0 and 0 behind the other end.
local ens, at_tail, kept, slice = ARGV[1], ARGV[2] == 'tail', number_at(3), number_at(4)
local spec = ensemble(ens)
if not spec then return {0, 0} end
local prefix = ens .. '-'
local list = 'rq:queue:' .. spec.queue
local from, to = kept, kept + slice - 1
if at_tail then from, to = -kept - slice, -kept - 1 end
local ids = read('LRANGE', list, from, to) or {}
local staying = {}
for _, id in ipairs(ids) do
  local mine = string.sub(id, 1, #prefix) == prefix
  local job = mine and read('HMGET', job_key(id), 'status', 'cb_past')
  if not job or job[1] == 'queued' then
    staying[#staying + 1] = id
  elseif job[2] then
    write('HDEL', job_key(id), 'cb_past')
  end
end
local removed = #ids - #staying
if removed == 0 then return {0, #staying} end
-- What lies between the slice and the end leaves the list with it, and comes back with what stays.
if at_tail then
  local behind = kept > 0 and redis.call('LRANGE', list, -kept, -1) or {}
  write('LTRIM', list, 0, -#ids - kept - 1)
  for _, some in ipairs({staying, behind}) do
    for _, id in ipairs(some) do later('RPUSH', list, id) end
  end
else
  local before = kept > 0 and redis.call('LRANGE', list, 0, kept - 1) or {}
  write('LTRIM', list, #ids + kept, -1)
  for _, some in ipairs({staying, before}) do
    for i = #some, 1, -1 do later('LPUSH', list, some[i]) end
  end
end
flush()
return {removed, #staying}
