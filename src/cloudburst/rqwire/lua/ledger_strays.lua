-- A page of all jobs' keys: those of stock clients that have not ended, and those of ensembles that do not exist.
-- Changes nothing.
-- ARGV: cursor, count. Returns the next cursor, then per job a letter (see ledger_jobs.lua; o: its ensemble does not
-- exist or has no such index), its id and its queue.
local page = redis.call('SCAN', ARGV[1], 'MATCH', 'rq:job:*', 'COUNT', ARGV[2], 'TYPE', 'hash')
local LETTER = {queued = 'q', started = 's', scheduled = 'd', deferred = 'w'}
local strays = {}
for _, key in ipairs(page[2]) do
  local found = read('HMGET', key, 'status', 'cb_ens', 'cb_index', 'origin') or {}
  local letter, ens = LETTER[found[1]], found[2]
  if ens then
    local spec = ensemble(ens)
    letter = not (spec and whole(found[3], 0, spec.submitted - 1)) and 'o' or nil
  end
  if letter then strays[#strays + 1] = {letter, string.sub(key, 8), found[4] or ''} end
end
return {page[1], strays}
