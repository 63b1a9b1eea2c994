-- Returns jobs to the head of the queue, in their order, or sets one aside that has lost too many executors.
-- Invariant: only the owner of a lease gives it back; what was never started costs no attempt.
-- ARGV: queue, node, default limit of attempts, then eight per job: id, owner, reason ('' if it was never
-- started), fingerprint, rq_exception, output, started_ms, what it ran on. Returns per job: returned, aside or stale.
local queue, node, default = ARGV[1], ARGV[2], number_at(3)
local answers = {}
for i = #ARGV - 7, 4, -8 do  -- backwards: the first ends up foremost
  local id, owner, reason = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local started_ms = number_at(i + 6)
  local job = load_job(id)
  local answer = 'returned'
  if job.cb_owner ~= owner or not read('ZSCORE', 'cb:lease:' .. queue, id) then
    answer = 'stale'
  elseif job.status == 'canceled' then
    settle(queue, id, job)
    answer = 'stale'
  elseif reason == '' then
    unlease(queue, id, job)
    write('HSET', job_key(id), 'cb_attempt', math.max((job.cb_attempt or 1) - 1, 0))
    to_head(queue, id, job)
    if not job.cb_ens then not_started(id) end
  elseif lose(queue, id, job, attempt_limit(job, default), reason, {node = node, fingerprint = ARGV[i + 3],
      rq_exception = ARGV[i + 4], output = ARGV[i + 5], started_ms = started_ms, provenance = ARGV[i + 7],
      duration_ms = math.max(math.floor(now * 1000 - started_ms), 0)}) then
    answer = 'aside'
  end
  table.insert(answers, 1, answer)
end
release_dependents(queue)
flush()
return answers
