"""The only part that knows RQ's keys and encodings, and the lease scheme that makes RQ lose nothing.

Every change of a job's state is one small Lua script on the stock keys (``lua/``), by Redis' own clock:

==============  ==========================================================================
``append``      jobs enter the queue, in order, exactly once however often it is repeated
``claim``       jobs leave the head of the queue and get a lease, in one step
``beat``        a worker extends its leases and learns which it has lost
``finish``      a job becomes final and is recorded, only by the owner of its lease
``give_back``   a job returns to the head of the queue: not started, or lost with its executor
``reap``        jobs whose lease has run out return to the head of the queue, or are set aside
``close``       waiting (and running) jobs of an ensemble become final together
``retry``       failed jobs of an ensemble are queued again and their records withdrawn
``upgrade``     jobs of an ensemble that have not started are to run on another payload
``open``        which ensembles have jobs waiting, and for which payloads
``seal``        an ensemble has all its jobs
``series``      series of points are counted to an ensemble, up to a limit
``warn``        a warning is kept with an ensemble
``withdraw``    ids of closed jobs leave the queue list, so that its length tells the truth
``build_*``     who builds an environment or a lock (``builds.py``)
``abandon``     the jobs of a worker that is known to be dead return at once
``node_wish``   what an operator wishes of a node (``nodes.py``)
``ledger_*``    change nothing: they show where each job is, in pages (``ledger/``)
``repair_*``    what the ledger found wrong and can be derived is put right
==============  ==========================================================================

``lua/prelude.lua`` states the invariants and holds what the scripts share. What only some need stands beside
it: ``dependents`` (of jobs that have become final), ``stock`` (what only stock clients ask for: ttl, retries,
repeats, schedules, callbacks), ``past`` (jobs that are taken past others whose payload is not ready),
``foreign`` (jobs of ensembles that other tools have cancelled or deleted).
"""
