-- Begins an ensemble that takes jobs.
-- Invariant: an ensemble is begun once, by the client that chose its id. A repetition by that client, whose reply
-- was lost, changes nothing, whatever was appended meanwhile; another client is told to choose another id.
-- ARGV: ensemble, token of the client, then fields and values. Returns 1, or 0 if the id is taken.
local key = ens_key(ARGV[1])
local creator = redis.call('HGET', key, 'creator')
if creator == ARGV[2] then return 1 end
if creator or redis.call('EXISTS', key) == 1 then return 0 end
redis.call('HSET', key, 'creator', ARGV[2], 'state', 'submitting', 'submitted', 0, 'created_at',
  string.format('%.6f', now), 'appended_at', string.format('%.6f', now), unpack(ARGV, 3))
redis.call('ZADD', 'cb:ensembles', string.format('%.6f', now), ARGV[1])
redis.call('ZADD', 'cb:open:' .. redis.call('HGET', key, 'queue'), string.format('%.6f', now), ARGV[1])
return 1
