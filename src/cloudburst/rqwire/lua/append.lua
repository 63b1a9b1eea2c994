-- Appends jobs to an ensemble and to the queue's tail.
-- Invariant: `submitted` of the ensemble is the index of its next job, and `digest` that of all descriptions below
-- it; jobs below it exist, none above does. Jobs are appended only where both are as the client knows them. So a
-- repetition after a lost reply changes nothing, nor does a client with other descriptions.
-- A million of them wait in memory: a field that stock RQ does without (enqueued_at, which is created_at, and
-- result_ttl, which is the same for all) costs some 40 MB each.
-- ARGV: ensemble, index of the first, digests of all descriptions before it and up to the last, head of the data
-- before each description, tail behind it, descriptions joined by newlines.
-- Returns state, `submitted` and `digest` of the ensemble afterwards.
local ens, first, before, after, head, tail, text = unpack(ARGV)
local key = ens_key(ens)
local spec = hash(key, 'state', 'submitted', 'digest', 'queue', 'timeout', 'retries')
local index = tonumber(spec.submitted or 0)
if spec.state ~= 'submitting' or index ~= tonumber(first) or (spec.digest or '') ~= before then
  return {spec.state or '', index, spec.digest or ''}
end
local retries = spec.retries ~= '0' and spec.retries
local prefix = ens .. '-'
local from, ids = 1, {}
repeat
  local newline = string.find(text, '\n', from, true)
  local id = prefix .. index
  ids[#ids + 1] = id
  redis.call('HSET', 'rq:job:' .. id, 'status', 'queued', 'origin', spec.queue, 'created_at', now_iso,
    'data', head .. string.sub(text, from, (newline or 0) - 1) .. tail, 'timeout', spec.timeout,
    'cb_ens', ens, 'cb_index', index)
  if retries then redis.call('HSET', 'rq:job:' .. id, 'retries_left', retries) end
  index = index + 1
  from = newline and newline + 1
until not from
for i = 1, #ids, 5000 do
  redis.call('RPUSH', 'rq:queue:' .. spec.queue, unpack(ids, i, math.min(i + 4999, #ids)))
end
redis.call('SADD', 'rq:queues', 'rq:queue:' .. spec.queue)
redis.call('HSET', key, 'submitted', index, 'digest', after, 'appended_at', string.format('%.6f', now))
return {spec.state, index, after}
