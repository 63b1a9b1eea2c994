-- Extends the lease of a build, says how it went, or ends it.
-- Invariant: only the holder of the token changes an entry, and only while it is still building; what is told of
-- its end is told once.
-- ARGV: what is built, token, state, lifetime in milliseconds (0: the entry goes), error, tail.
-- Returns whether the caller had the lease.
local key = 'cb:build:' .. ARGV[1]
local entry = redis.call('HMGET', key, 'token', 'state')
if entry[1] ~= ARGV[2] or entry[2] ~= 'building' then return 0 end
if ARGV[4] == '0' then
  redis.call('DEL', key)
else
  redis.call('HSET', key, 'state', ARGV[3], 'error', ARGV[5], 'tail', ARGV[6])
  redis.call('PEXPIRE', key, ARGV[4])
end
return 1
