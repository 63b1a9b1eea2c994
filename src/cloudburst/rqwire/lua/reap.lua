-- Returns jobs whose lease has run out, records what other tools have cancelled, queues scheduled jobs that are
-- due. Every worker runs it, often.
-- Invariant: after a time in which nobody could reach Redis (no reap at all), leases are extended once before
-- any is reaped: their workers may be alive and hold finished work.
-- ARGV: queue, lease in seconds, longest usual pause between reaps, default limit of attempts, fingerprint
-- and rq_exception of a job that is set aside. Returns the ids that came back and those that were set aside.
local queue, lease, pause, default = ARGV[1], number_at(2), number_at(3), number_at(4)
local leases = 'cb:lease:' .. queue
local last = tonumber(read('GET', 'cb:reaped:' .. queue) or 0) or 0
write('SET', 'cb:reaped:' .. queue, string.format('%.6f', now))
local extend = now - last > pause and read('ZRANGEBYSCORE', leases, '-inf', now + lease) or {}
for _, id in ipairs(extend) do later('ZADD', leases, string.format('%.6f', now + lease), id) end

local back, aside = {}, {}
local expired = #extend == 0 and read('ZREVRANGEBYSCORE', leases, now, '-inf', 'LIMIT', 0, 200) or {}
for _, id in ipairs(last_first(expired)) do
  local job = load_job(id)
  if job.status == 'started' then
    count('cb:stats', 'leases_lost', 1)
    local reason = 'its worker ' .. (job.worker_name or '') .. ' was lost'
    if lose(queue, id, job, attempt_limit(job, default), reason,
        {fingerprint = ARGV[5], rq_exception = ARGV[6]}) then
      aside[#aside + 1] = id
    else
      back[#back + 1] = id
    end
  else
    settle(queue, id, job)
  end
end
record_cancelled(queue)
queue_due(queue)

-- Stock registries name jobs whose hashes have expired; stock RQ trims them only when a stock worker runs.
-- From 0: RQ scores a failure that is kept for ever with -1.
write('ZREMRANGEBYSCORE', 'rq:finished:' .. queue, 0, now)
write('ZREMRANGEBYSCORE', 'rq:failed:' .. queue, 0, now)
release_dependents(queue)
flush()
return {back, aside}
