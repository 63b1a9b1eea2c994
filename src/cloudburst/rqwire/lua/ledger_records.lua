-- A page of an ensemble's records, as little of each as an audit needs. Changes nothing.
-- ARGV: ensemble, entry behind which to begin, last entry (+: to the end), count, also the entries (1 or 0).
-- Returns the last entry ('' at the end), then the text: per record its index and a letter, f(inished), e (failed)
-- or c(ancelled), in capitals when the job goes on although it is recorded, then the entry if asked for;
-- then the entries that name no job of this ensemble.
local ens, after, till, count, entries = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local LETTER = {finished = 'f', failed = 'e', cancelled = 'c'}
local GOES_ON = {queued = true, started = true, scheduled = true, deferred = true}
local text, strange = {}, {}
local last = ''
for _, entry in ipairs(read('XRANGE', ens_key(ens) .. ':results', '(' .. after, till, 'COUNT', count) or {}) do
  local index, job, state
  local fields = entry[2]
  for i = 1, #fields, 2 do
    local name = fields[i]
    if name == 'index' then index = fields[i + 1]
    elseif name == 'job' then job = fields[i + 1]
    elseif name == 'state' then state = fields[i + 1] end
    if index and job and state then break end
  end
  last = entry[1]
  local letter = LETTER[state]
  if letter and job == ens .. '-' .. tostring(index) and string.find(index, '^%d+$') then
    local found = read('HMGET', job_key(job), 'status', 'cb_final') or {}
    -- A stock client may queue a recorded job again: its record is withdrawn when it is claimed.
    if GOES_ON[found[1]] and not (found[1] == 'queued' and found[2]) then letter = string.upper(letter) end
    text[#text + 1] = entries and (index .. letter .. last) or (index .. letter)
  else
    strange[#strange + 1] = last
  end
end
return {last, table.concat(text, ' '), strange}
