-- Jobs that are taken past others, which a worker cannot run yet: from ensembles that have jobs waiting, by id.
-- Invariant: such an id stays in the list, and cb_past in the job's hash says so for as long as it does. Whoever
-- takes an id out of the list removes that field; whoever queues a job that has it does not put its id there
-- again (see `enlist`), so that no waiting job is in the list twice. It waits where it was enqueued.
-- Ids of jobs that have ended meanwhile are dropped when they come to the head; until then the list is longer
-- than there are jobs.
-- cb:open:<queue> has the ensembles that may have jobs waiting, by the time they were created: they enter when they
-- begin and when a record is withdrawn, and leave when somebody has seen that they are complete (open.lua). `looked` of an
-- ensemble is the index below which this look has left no waiting job: it moves back when one is queued again.
-- Bounds: the 100 oldest of these ensembles, 500 ids per call. Jobs of stock clients have no index, so behind more
-- others than one call looks at they wait until these are ready.
local MOST_ENSEMBLES, MOST_LOOKED = 100, 500

-- How many jobs of an ensemble wait, and how many have begun.
local function waiting_of(spec)
  local placed = spec.running + spec.finished + spec.failed + spec.cancelled
  return spec.submitted - placed, placed
end

-- Offers jobs to `deal_with` while `more` says so, oldest ensemble first; each in its order.
local function take_past(queue, excluded, more, fields, deal_with)
  local left = MOST_LOOKED
  for _, ens in ipairs(read('ZRANGE', 'cb:open:' .. queue, 0, MOST_ENSEMBLES - 1) or {}) do
    if not more() or left == 0 then return end
    local spec = ensemble(ens)
    local waiting, placed = 0, 0
    if spec then waiting, placed = waiting_of(spec) end
    local open = spec and (spec.state == 'open' or spec.state == 'submitting')
    if open and waiting > 0 and not excluded[spec.payload or ''] then
      -- The first look begins near the jobs that have run: those before it are found at the list's head later.
      local first = math.max(spec.looked or placed - 1000, 0)
      local index = first
      while index < spec.submitted and left > 0 and more() do
        local id = ens .. '-' .. string.format('%.0f', index)
        local job = load(id, fields)
        left = left - 1
        if job.status == 'queued' then
          if not deal_with(id, job) then break end
          write('HSET', job_key(id), 'cb_past', 1)
        end
        index = index + 1
      end
      if index ~= first then write('HSET', ens_key(ens), 'looked', index) end
    end
  end
end
