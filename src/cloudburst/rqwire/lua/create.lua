-- Begins an ensemble that takes jobs.
-- Invariant: an ensemble is begun once, by the client that chose its id. A repetition by that client, whose reply
-- was lost, changes nothing, whatever was appended meanwhile; another client is told to choose another id.
-- ARGV: ensemble, token of the client, then fields and values. Returns 1, or 0 if the id is taken.
local key, at = ens_key(ARGV[1]), string.format('%.6f', now)
local creator = read('HGET', key, 'creator')
if creator == ARGV[2] then return 1 end
if creator or redis.call('EXISTS', key) == 1 then return 0 end
local fields = {}
for i = 3, #ARGV, 2 do fields[ARGV[i]] = ARGV[i + 1] end
write('HSET', key, 'creator', ARGV[2], 'state', 'submitting', 'submitted', 0, 'created_at', at, 'appended_at', at,
  unpack(ARGV, 3))
write('ZADD', 'cb:ensembles', at, ARGV[1])
write('ZADD', 'cb:open:' .. fields.queue, at, ARGV[1])
flush()
return 1
