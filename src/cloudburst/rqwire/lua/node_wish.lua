-- Sets one wish for a node: its name, the field, the value (a number or 'true'), or '' to withdraw it.
local text = redis.call('HGET', 'cb:nodes', ARGV[1])
local known, wishes = pcall(cjson.decode, text or '{}')
if not known or type(wishes) ~= 'table' then wishes = {} end
wishes[ARGV[2]] = nil
if ARGV[3] ~= '' then wishes[ARGV[2]] = ARGV[3] == 'true' or tonumber(ARGV[3]) end
if next(wishes) then
  redis.call('HSET', 'cb:nodes', ARGV[1], cjson.encode(wishes))
else
  redis.call('HDEL', 'cb:nodes', ARGV[1])
end
