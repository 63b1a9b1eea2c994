-- Extends the lease of a build, says how it went, or ends it.
-- Invariant: only the holder of the token changes an entry, and only while it is still building; what is told of
-- its end is told once.
-- ARGV: what is built, token, state, lifetime in milliseconds (0: the entry goes), error, tail.
-- Returns whether the caller had the lease.
local key = 'cb:build:' .. ARGV[1]
local entry = read('HMGET', key, 'token', 'state') or {}
if entry[1] ~= ARGV[2] or entry[2] ~= 'building' then return 0 end
if ARGV[4] == '0' then
  write('DEL', key)
else
  write('HSET', key, 'state', ARGV[3], 'error', ARGV[5], 'tail', ARGV[6])
  write('PEXPIRE', key, number_at(4))
end
flush()
return 1
