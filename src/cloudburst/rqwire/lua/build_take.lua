-- Takes the lease of a build, unless somebody has it or has told how it went.
-- Invariant: an entry has one holder at most, named by a token that is never used twice; entries expire.
-- ARGV: what is built, token, node, lease in milliseconds.
-- Returns nothing if the lease was taken, else state, node, error and tail of the entry that is there.
local key = 'cb:build:' .. ARGV[1]
local there = read('HMGET', key, 'state', 'node', 'error', 'tail')
if there and there[1] then return there end
write('HSET', key, 'state', 'building', 'token', ARGV[2], 'node', ARGV[3])
write('PEXPIRE', key, number_at(4))
flush()
return {}
