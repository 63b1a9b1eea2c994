-- Which of these members of rq:wip belong to no lease. Changes nothing. Those of stock workers have a deadline
-- there, ours have none.
-- ARGV: queue, members. Returns the members.
local queue = ARGV[1]
local wrong = {}
for i = 2, #ARGV do
  local member = ARGV[i]
  local id, owner = string.match(member, '^(.*):([^:]*)$')
  if id and redis.call('ZSCORE', 'rq:wip:' .. queue, member) == 'inf' then
    local found = redis.call('HMGET', job_key(id), 'status', 'cb_owner')
    -- A stock tool may have cancelled it while it runs: it ends as it ends.
    local runs = found[1] == 'started' or found[1] == 'canceled'
    if not runs or found[2] ~= owner or not redis.call('ZSCORE', 'cb:lease:' .. queue, id) then
      wrong[#wrong + 1] = member
    end
  end
end
return wrong
