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
local spec = ensemble(ens)
if not spec then return {'', 0, ''} end
local index = spec.submitted
if spec.state ~= 'submitting' or index ~= tonumber(first) or (spec.digest or '') ~= before then
  return {spec.state, index, spec.digest or ''}
end
local keys, from = {}, 1
repeat
  local newline = string.find(text, '\n', from, true)
  local id = ens .. '-' .. index
  local key = job_key(id)  -- where nothing should be; but ids can be guessed
  keys[#keys + 1] = key
  known[key] = 'hash'
  later('RPUSH', 'rq:queue:' .. spec.queue, id)
  write('HSET', key, 'status', 'queued', 'origin', spec.queue, 'created_at', now_iso,
    'data', head .. string.sub(text, from, (newline or 0) - 1) .. tail, 'timeout', spec.timeout or -1,
    'cb_ens', ens, 'cb_index', index)
  if (spec.retries or 0) > 0 then write('HSET', key, 'retries_left', spec.retries) end
  index = index + 1
  from = newline and newline + 1
until not from
write('SADD', 'rq:queues', 'rq:queue:' .. spec.queue)
write('HSET', ens_key(ens), 'submitted', index, 'digest', after, 'appended_at', string.format('%.6f', now))
for i = 1, #keys, 4000 do
  local some = {unpack(keys, i, math.min(i + 3999, #keys))}
  if redis.call('EXISTS', unpack(some)) > 0 then table.insert(notes, 1, {'DEL', unpack(some)}) end
end
flush()
return {spec.state, index, after}
