-- Sets one wish for a node: its name, the field, the value (a number or 'true'), or '' to withdraw it.
local text = read('HGET', 'cb:nodes', ARGV[1])
local readable, wishes = pcall(cjson.decode, text or '{}')
if not readable or type(wishes) ~= 'table' then wishes = {} end
wishes[ARGV[2]] = nil
if ARGV[3] ~= '' then wishes[ARGV[2]] = ARGV[3] == 'true' or number_at(3) end
if next(wishes) then
  write('HSET', 'cb:nodes', ARGV[1], cjson.encode(wishes))
else
  write('HDEL', 'cb:nodes', ARGV[1])
end
flush()
