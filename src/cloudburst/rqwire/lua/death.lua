-- Takes a worker's entry away, as a stock worker does.
-- ARGV: name, queue, time of its death, seconds until the entry expires.
local key = 'rq:worker:' .. ARGV[1]
write('SREM', 'rq:workers', key)
write('SREM', 'rq:workers:' .. ARGV[2], key)
write('HSET', key, 'death', ARGV[3])
write('EXPIRE', key, number_at(4))
flush()
