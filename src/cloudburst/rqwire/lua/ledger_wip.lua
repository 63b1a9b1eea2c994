-- Which of these members of rq:wip belong to no lease. Changes nothing. Those of stock workers have a deadline
-- there, ours have none.
-- ARGV: queue, members. Returns the members.
local queue = ARGV[1]
local wrong = {}
for i = 2, #ARGV do
  local member = ARGV[i]
  local id, owner = string.match(member, '^(.*):([^:]*)$')
  if id and read('ZSCORE', 'rq:wip:' .. queue, member) == 'inf' then
    if read('HGET', job_key(id), 'cb_owner') ~= owner or not read('ZSCORE', 'cb:lease:' .. queue, id) then
      wrong[#wrong + 1] = member
    end
  end
end
return wrong
