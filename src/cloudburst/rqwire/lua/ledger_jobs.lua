-- Where jobs are, each looked at in one step. Changes nothing.
-- ARGV: queue, also look in the list (1 or 0: that costs as much as the list is long), ids.
-- Returns six characters per job: q(ueued), s(tarted), d (scheduled), w(aiting for others), f (ended), x (cancelled
-- by a stock tool, which a worker has yet to record: foreign.lua) or - (no hash); then 1 or 0 each for its lease, its entry in rq:wip (2: that of a stock worker, which has no lease), in
-- rq:scheduled, in rq:deferred; and how often it is in the list (at most 2), ? if that was not asked for.
local queue, search = ARGV[1], ARGV[2] == '1'
local LETTER = {queued = 'q', started = 's', scheduled = 'd', deferred = 'w'}
local function is_in(key, member) return read('ZSCORE', key .. queue, member) and '1' or '0' end
local answers = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local found = read('HMGET', job_key(id), 'status', 'cb_owner', 'cb_final') or {}
  local status = found[1] and (LETTER[found[1]] or 'f') or '-'
  local lease = is_in('cb:lease:', id)
  if found[1] == 'canceled' and not found[3] then
    local cancelled_at = read('ZSCORE', 'rq:canceled:' .. queue, id) or 'inf'
    if cancelled_at ~= 'inf' or lease == '1' then status = 'x' end
  end
  local wip = found[2] and is_in('rq:wip:', id .. ':' .. found[2]) or '0'
  local listed = '?'
  if search then
    listed = #(read('LPOS', 'rq:queue:' .. queue, id, 'COUNT', 2) or {})
    -- A stock worker holds a job there for a moment.
    if listed == 0 then listed = #(read('LPOS', 'rq:queue:' .. queue .. ':intermediate', id, 'COUNT', 1) or {}) end
    if status == 's' and wip == '0' then
      local theirs = (read('ZSCAN', 'rq:wip:' .. queue, 0, 'MATCH', id .. ':*', 'COUNT', 1000000) or {'0', {}})[2]
      for k = 2, #theirs, 2 do
        if theirs[k] ~= 'inf' then wip = '2' end
      end
    end
  end
  answers[#answers + 1] = status .. lease .. wip .. is_in('rq:scheduled:', id)
    .. is_in('rq:deferred:', id) .. listed
end
return answers
