"""How many jobs that do nothing does one worker of two slots run per second, against the peers?

The jobs are in the queue before the worker starts; the time runs from the start of the first to the record
of the last. Ours has the append-only file that every stack has, with and without a points database (each job
then writes the point of its returned value, too); the peers run two processes each, on a Redis without
persistence, and keep results. Writes benchmarks/results/noop.json.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import measure
import payloads
import peers
import services

JOBS = {"rq_fork": 300, "rq_simple": 1500}
"""Jobs per round of the slow peers; the others get a quarter of ours."""

PEERS = ("rq_fork", "rq_simple", "dask", "celery", "saq", "taskiq", "huey", "dramatiq")
GOALS = [
    measure.Goal("run no-op jobs", "jobs/s", must=4000, stretch=8000, peers=PEERS),
    measure.Goal(
        "run no-op jobs", "jobs/s", must=4000, stretch=8000, ours="cloudburst with points", peers=PEERS
    ),
]


def main() -> None:
    parser = measure.arguments(__doc__, jobs=20_000)
    parser.add_argument("--only", default="", help="peers to run, separated by commas (all)")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else PEERS
    with services.running() as stack:
        warm_up(stack)
        ways = {
            "cloudburst": partial(ours, stack, options.jobs, points=False),
            "cloudburst with points": partial(ours, stack, options.jobs, points=True),
        }
        for peer in PEERS:
            if peer in only:
                ways[peer] = partial(peers.run, peer, JOBS.get(peer, options.jobs // 4))
        runs = measure.interleave(ways, options.repeats)
        versions = peers.versions() | {"redis-server": stack.redis.version}
    measure.report("noop", GOALS, runs, options, versions=versions)


def warm_up(stack: services.Services) -> None:
    """Have the environment of the payload built."""
    ours(stack, 10, points=True)


def ours(stack: services.Services, jobs: int, *, points: bool) -> measure.Values:
    """One round on the payload that has no packages."""
    return run(stack, payloads.write(stack.directory / "payload"), jobs, slots=2, points=points)


def run(stack: services.Services, payload: Path, jobs: int, *, slots: int, points: bool) -> measure.Values:
    """One round: the payload's ``noop``, by a worker that is started when the jobs are there."""
    ensemble = stack.stack.submit(
        "noop", payload=payload, function="worker.noop", jobs=payloads.descriptions(jobs)
    )
    usage = services.Usage(stack.redis.client)
    worker = stack.worker(slots=slots, points=points)
    ended = services.ended_at(ensemble)
    used = usage.since()
    first = next(iter(ensemble.results())).started_at
    services.end(worker)
    stack.redis.client.flushall()
    return {
        "jobs/s": jobs / (ended - first),
        "Redis ms/job": used["cpu_s"] * 1000 / jobs,
        "commands/job": used["commands"] / jobs,
        "round trips/job": used["replies"] / jobs,
        "bytes in/job": used["bytes_in"] / jobs,
        "bytes out/job": used["bytes_out"] / jobs,
    }


if __name__ == "__main__":
    main()
