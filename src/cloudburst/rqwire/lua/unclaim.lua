-- Returns the jobs of claims whose replies were lost: their worker does not know which they are, and began none.
-- Invariant: as for give_back; what was never started costs no attempt.
-- ARGV: queue, owners. Returns the ids.
local queue = ARGV[1]
local owners = {}
for i = 2, #ARGV do owners[ARGV[i]] = true end
local back = {}
for _, id in ipairs(last_first(read('ZREVRANGE', 'cb:lease:' .. queue, 0, -1) or {})) do
  if owners[read('HGET', job_key(id), 'cb_owner') or ''] then
    local job = load_job(id)
    if job.status == 'started' then
      unlease(queue, id, job)
      write('HSET', job_key(id), 'cb_attempt', math.max((job.cb_attempt or 1) - 1, 0))
      not_started(id)
      to_head(queue, id, job)
      back[#back + 1] = id
    end
  end
end
flush()
return back
