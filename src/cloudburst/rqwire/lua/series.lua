-- Counts the series of points of an ensemble, and says which may be written: those that it has, and new ones up to a
-- limit. They are numbers of 40 bits in the set cb:ens:<id>:series, which the limit bounds. About how many values a tag
-- has is known of some tags, whose names are in the set cb:ens:<id>:tags: each has a HyperLogLog (12 KiB at most).
-- ARGV: ensemble, limit, how many tags, how many series (1,000 at most), the series; then per tag its name, how many
-- values, and the values.
-- Returns a text of 1 (it may be written) or 0 per series, and the tag with most values, if some may not and one is
-- known.
local ens, limit, most_tags, series = ARGV[1], number_at(2), number_at(3), number_at(4)
if not ensemble(ens) then return {string.rep('1', series), false} end
local key = ens_key(ens) .. ':series'
local had = read('SMISMEMBER', key, unpack(ARGV, 5, 4 + series)) or {}
local room = limit - (read('SCARD', key) or 0)
local may, new, refused = {}, {}, false
for i = 1, series do
  if had[i] == 1 then
    may[i] = '1'
  elseif #new < room then
    may[i], new[#new + 1] = '1', ARGV[4 + i]
  else
    may[i], refused = '0', true
  end
end
may = table.concat(may)
if #new == 0 and not refused then return {may, false} end

local names_key = ens_key(ens) .. ':tags'
local values, best, left = {}, false, most_tags
local function tag_key(name) return ens_key(ens) .. ':tag:' .. name end
for _, name in ipairs(read('SMEMBERS', names_key) or {}) do
  values[name], left = read('PFCOUNT', tag_key(name)) or 0, left - 1
  if not best or values[name] > values[best] or (values[name] == values[best] and name < best) then best = name end
end
if #new > 0 then
  write('SADD', key, unpack(new))
  local i = 5 + series
  while ARGV[i] do
    local name, count = ARGV[i], number_at(i + 1)
    if values[name] or left > 0 then
      if not values[name] then
        write('SADD', names_key, name)
        left = left - 1
      end
      if not read('PFCOUNT', tag_key(name)) then write('DEL', tag_key(name)) end  -- it is something else
      write('PFADD', tag_key(name), unpack(ARGV, i + 2, i + 1 + count))
    end
    i = i + 2 + count
  end
  flush()
end
return {may, refused and best}
