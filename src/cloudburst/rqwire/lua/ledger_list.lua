-- A page of a queue's list, from its tail towards its head: claims at the head do not shift it. Changes nothing.
-- ARGV: queue, how many ids lie behind the page, count.
-- Returns per id the first letter of its job's state (see ledger_jobs.lua) and the id.
local queue, behind, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local LETTER = {queued = 'q', started = 's', scheduled = 'd', deferred = 'w'}
local ids = read('LRANGE', 'rq:queue:' .. queue, -behind - count, -behind - 1) or {}
local found = {}
for i = #ids, 1, -1 do
  local status = read('HGET', job_key(ids[i]), 'status')
  found[#found + 1] = (status and (LETTER[status] or 'f') or '-') .. ids[i]
end
return found
