-- For scripts by which accepted work goes on when Redis' memory is full (maxmemory, noeviction). Redis then refuses
-- whatever may take memory, but in a script only as its first write: what has begun is brought to its end (7.0:
-- scriptVerifyOOM; 6.2: lua_write_dirty). So the first write is this one, which does nothing and takes nothing.
-- Records take more than the limit allows, then; a job that waits takes as much as its record, so it is bounded.
redis.call('HDEL', 'cb:ens:', '')  -- no ensemble's id is empty; all roles with scripts may write there
