-- Which ensembles have jobs waiting, oldest first; those that are complete leave cb:open (see past.lua).
-- ARGV: queue. Returns per ensemble its id and its payload's digest.
local open = 'cb:open:' .. ARGV[1]
local found = {}
for _, ens in ipairs(redis.call('ZRANGE', open, 0, MOST_ENSEMBLES - 1)) do
  local facts = hash(ens_key(ens), 'state', 'payload', 'running')
  local waiting = waiting_of(ens)
  if waiting > 0 and facts.state ~= 'cancelled' and facts.state ~= 'failed' then
    found[#found + 1] = {ens, facts.payload or ''}
  elseif waiting <= 0 and facts.state ~= 'submitting' and tonumber(facts.running or 0) <= 0 then
    redis.call('ZREM', open, ens)
  end
end
return found
