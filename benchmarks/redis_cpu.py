"""How much of Redis does one no-op job take? All nodes share one Redis, so this bounds the whole stack.

CPU time of the Redis process, commands (those inside of scripts too) and round trips, per job, from before
the worker starts to the record of the last job: what a worker does besides is in it. Ours writes an
append-only file meanwhile, the peers' Redis does not. Writes benchmarks/results/redis_cpu.json.
"""

from __future__ import annotations

from functools import partial

import measure
import noop
import peers
import services

PEERS = tuple(peer for peer in noop.PEERS if peer != "dask")  # it has no Redis
ROW = "Redis per no-op job"
GOALS = [
    measure.Goal(ROW, "Redis ms/job", must=0.15, stretch=0.08, higher=False, peers=PEERS),
    measure.Goal(ROW, "commands/job", higher=False, peers=("rq_fork", "rq_simple")),
    measure.Goal(ROW, "round trips/job", higher=False, peers=("rq_fork", "rq_simple")),
]


def main() -> None:
    options = measure.arguments(__doc__, jobs=20_000).parse_args()
    with services.running() as stack:
        noop.warm_up(stack)
        ways = {"cloudburst": partial(noop.ours, stack, options.jobs, points=False)}
        for peer in PEERS:
            ways[peer] = partial(peers.run, peer, noop.JOBS.get(peer, options.jobs // 4))
        runs = measure.interleave(ways, options.repeats)
        versions = peers.versions() | {"redis-server": stack.redis.version}
    measure.report("redis_cpu", GOALS, runs, options, versions=versions)


if __name__ == "__main__":
    main()
