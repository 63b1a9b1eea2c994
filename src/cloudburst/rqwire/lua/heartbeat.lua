-- Tells that a worker lives, and makes its entry if it is not there.
-- ARGV: name, queue, node, seconds until the entry expires, then fields and values.
-- Returns whether workers are suspended (1 or 0), how many serve the queue, and the wishes for the node.
local key, queue, node, alive = 'rq:worker:' .. ARGV[1], ARGV[2], ARGV[3], ARGV[4]
redis.call('HSET', key, unpack(ARGV, 5))
redis.call('EXPIRE', key, alive)
redis.call('SADD', 'rq:workers', key)
redis.call('SADD', 'rq:workers:' .. queue, key)
redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
return {redis.call('EXISTS', 'rq:suspended'), redis.call('SCARD', 'rq:workers:' .. queue),
  redis.call('HGET', 'cb:nodes', node)}
