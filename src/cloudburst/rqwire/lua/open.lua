-- Which ensembles have jobs waiting, oldest first; those that are complete leave cb:open (see past.lua).
-- ARGV: queue. Returns per ensemble its id and its payload's digest.
local open = 'cb:open:' .. ARGV[1]
local found = {}
for _, ens in ipairs(read('ZRANGE', open, 0, MOST_ENSEMBLES - 1) or {}) do
  local spec = ensemble(ens)
  local waiting = spec and waiting_of(spec) or 0
  if spec and waiting > 0 and spec.state ~= 'cancelled' and spec.state ~= 'failed' then
    found[#found + 1] = {ens, spec.payload or ''}
  elseif not spec or (waiting <= 0 and spec.state ~= 'submitting' and spec.running <= 0) then
    later('ZREM', open, ens)
  end
end
flush()
return found
