-- How many of these records there are now, counted in one step. Changes nothing.
-- ARGV: ensemble, entries.
local count = 0
for i = 2, #ARGV do
  count = count + #(read('XRANGE', ens_key(ARGV[1]) .. ':results', ARGV[i], ARGV[i]) or {})
end
return count
