-- Returns the jobs of a worker that is known to be dead, at once instead of when their leases run out.
-- Called by a worker that starts in the place of the dead one, under a lock that both take.
-- ARGV: queue, prefix of the dead worker's owners, default limit of attempts, fingerprint, rq_exception.
-- Returns the ids.
local queue, prefix, default = ARGV[1], ARGV[2], number_at(3)
local back = {}
for _, id in ipairs(last_first(read('ZREVRANGE', 'cb:lease:' .. queue, 0, -1) or {})) do
  local job = load_job(id)
  if job.status == 'started' and string.sub(job.cb_owner or '', 1, #prefix) == prefix then
    count('cb:stats', 'leases_lost', 1)
    lose(queue, id, job, attempt_limit(job, default), 'its worker ' .. (job.worker_name or '') .. ' was lost',
      {fingerprint = ARGV[4], rq_exception = ARGV[5]})
    back[#back + 1] = id
  end
end
release_dependents(queue)
flush()
return back
