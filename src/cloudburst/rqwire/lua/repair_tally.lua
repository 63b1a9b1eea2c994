-- What a page of an ensemble's records says, counted. Changes nothing.
-- ARGV: ensemble, entry behind which to begin, count. Returns the last entry ('' at the end), how many entries there
-- were, how many of them are no records; then per kind of record: state, what it ran on, fingerprint, how many, the
-- first job.
local last, strange = '', 0
local kinds, rows = {}, {}
local page = read('XRANGE', ens_key(ARGV[1]) .. ':results', '(' .. ARGV[2], '+', 'COUNT', number_at(3)) or {}
for _, entry in ipairs(page) do
  last = entry[1]
  local fields = {ran = '0'}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  if fields.state == 'finished' or fields.state == 'failed' or fields.state == 'cancelled' then
    local fingerprint = fields.state == 'failed' and fields.fingerprint or ''
    local kind = fields.state .. '\n' .. fields.ran .. '\n' .. fingerprint
    if not kinds[kind] then
      kinds[kind] = {fields.state, fields.ran, fingerprint, 0, fields.job or ''}
      rows[#rows + 1] = kinds[kind]
    end
    kinds[kind][4] = kinds[kind][4] + 1
  else
    strange = strange + 1
  end
end
return {last, #page, strange, rows}
