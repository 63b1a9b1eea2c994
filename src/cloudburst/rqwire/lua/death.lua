-- Takes a worker's entry away, as a stock worker does.
-- ARGV: name, queue, time of its death, seconds until the entry expires.
local key = 'rq:worker:' .. ARGV[1]
redis.call('SREM', 'rq:workers', key)
redis.call('SREM', 'rq:workers:' .. ARGV[2], key)
redis.call('HSET', key, 'death', ARGV[3])
redis.call('EXPIRE', key, ARGV[4])
