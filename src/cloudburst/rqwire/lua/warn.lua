-- Keeps a warning with an ensemble, one a line.
-- ARGV: ensemble, one line of text, how many it may have.
if not ensemble(ARGV[1]) then return end
local key, text = ens_key(ARGV[1]), ARGV[2]
local there = redis.call('HGET', key, 'warnings') or ''
local _, lines = string.gsub(there, '\n', '')
if lines >= number_at(3) or string.find('\n' .. there, '\n' .. text .. '\n', 1, true) then return end
write('HSET', key, 'warnings', there .. text .. '\n')
flush()
