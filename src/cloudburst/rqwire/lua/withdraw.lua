-- Removes from the queue list the ids of an ensemble whose jobs are final, so that its length tells the truth.
-- Invariant: only ids whose jobs are not `queued` are removed.
-- ARGV: ensemble. Returns how many were removed.
local prefix = ARGV[1] .. '-'
local list = 'rq:queue:' .. redis.call('HGET', ens_key(ARGV[1]), 'queue')
local kept, removed = {}, 0
for _, id in ipairs(redis.call('LRANGE', list, 0, -1)) do
  if string.sub(id, 1, #prefix) == prefix and redis.call('HGET', job_key(id), 'status') ~= 'queued' then
    removed = removed + 1
  else
    kept[#kept + 1] = id
  end
end
if removed > 0 then
  redis.call('DEL', list)
  for i = 1, #kept, 5000 do redis.call('RPUSH', list, unpack(kept, i, math.min(i + 4999, #kept))) end
end
return removed
