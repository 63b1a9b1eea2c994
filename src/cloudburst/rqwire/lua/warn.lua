-- Keeps a warning with an ensemble, one a line.
-- ARGV: ensemble, one line of text, how many it may have.
local key, text = ens_key(ARGV[1]), ARGV[2]
if redis.call('EXISTS', key) == 0 then return end
local there = redis.call('HGET', key, 'warnings') or ''
local _, lines = string.gsub(there, '\n', '')
if lines >= tonumber(ARGV[3]) or string.find('\n' .. there, '\n' .. text .. '\n', 1, true) then return end
redis.call('HSET', key, 'warnings', there .. text .. '\n')
