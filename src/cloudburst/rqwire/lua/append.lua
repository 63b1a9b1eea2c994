-- Appends jobs to an ensemble and to the queue's tail.
-- Invariant: `submitted` of the ensemble is the index of its next job; jobs below it exist, none above does.
-- So a repetition after a lost reply is recognised and changes nothing.
-- ARGV: ensemble, index of the first, head of the data before each description, tail behind it, descriptions
-- Returns the new `submitted`; -1: the ensemble takes no jobs any more; -2: `first` is beyond it.
local ens, first, head, tail = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local key = ens_key(ens)
local spec = hash(key, 'state', 'submitted', 'queue', 'timeout', 'result_ttl', 'retries')
if spec.state ~= 'submitting' then return -1 end
local submitted = tonumber(spec.submitted)
if first > submitted then return -2 end
local ids = {}
for i = 5 + submitted - first, #ARGV do
  local index = first + i - 5
  local id = ens .. '-' .. index
  ids[#ids + 1] = id
  redis.call('HSET', job_key(id), 'status', 'queued', 'origin', spec.queue, 'created_at', now_iso,
    'enqueued_at', now_iso, 'data', head .. ARGV[i] .. tail, 'timeout', spec.timeout,
    'result_ttl', spec.result_ttl, 'cb_ens', ens, 'cb_index', index)
  if spec.retries ~= '0' then redis.call('HSET', job_key(id), 'retries_left', spec.retries) end
end
for i = 1, #ids, 5000 do
  redis.call('RPUSH', 'rq:queue:' .. spec.queue, unpack(ids, i, math.min(i + 4999, #ids)))
end
redis.call('SADD', 'rq:queues', 'rq:queue:' .. spec.queue)
redis.call('HSET', key, 'submitted', submitted + #ids)
return submitted + #ids
