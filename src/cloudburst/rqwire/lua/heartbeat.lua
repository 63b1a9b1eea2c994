-- Tells that a worker lives, and makes its entry if it is not there.
-- ARGV: name, queue, node, seconds until the entry expires, then fields and values.
-- Returns whether workers are suspended (1 or 0), how many serve the queue, and the wishes for the node.
local key, queue, node, alive = 'rq:worker:' .. ARGV[1], ARGV[2], ARGV[3], number_at(4)
write('HSET', key, unpack(ARGV, 5))
write('EXPIRE', key, alive)
write('SADD', 'rq:workers', key)
write('SADD', 'rq:workers:' .. queue, key)
write('SADD', 'rq:queues', 'rq:queue:' .. queue)
flush()
return {redis.call('EXISTS', 'rq:suspended'), redis.call('SCARD', 'rq:workers:' .. queue),
  read('HGET', 'cb:nodes', node) or false}
