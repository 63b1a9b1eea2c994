"""How much of Redis' memory does a waiting job take?

``used_memory`` with so many jobs in the queue, less that before, each with a description of 327 bytes of
JSON. Ours with the settings of a stack's Redis; stock RQ with Redis' own settings, as its users have it,
and with ours (``rq, our settings``). Both with RQ's JSON serializer, which compresses; RQ's default
pickles, and is larger. The allocator matters: see ``allocator`` in the facts. Writes
benchmarks/results/memory.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import enqueue
import measure
import payloads
import services

ROW = "Redis memory per waiting job"
GOALS = [measure.Goal(ROW, "bytes/job", must=800, stretch=550, higher=False)]


def main() -> None:
    parser = measure.arguments(__doc__, jobs=100_000)
    parser.add_argument("--rq-jobs", type=int, default=20_000, help="per round of stock RQ (20,000)")
    options = parser.parse_args()
    jobs = list(payloads.descriptions(options.jobs))
    few = jobs[: options.rq_jobs]
    with services.bare_redis() as tuned, services.bare_redis() as default:
        default.client.config_set("hash-max-ziplist-value", 64)
        ways = {
            "cloudburst": partial(measured, tuned, enqueue.ours, jobs),
            "rq": partial(measured, default, enqueue.rq_enqueue_many, few),
            "rq, our settings": partial(measured, tuned, enqueue.rq_enqueue_many, few),
        }
        runs = measure.interleave(ways, options.repeats)
        memory: Any = tuned.client.info("memory")
        facts = {"allocator": memory["mem_allocator"]}
        version = tuned.version
    measure.report("memory", GOALS, runs, options, versions={"redis-server": version}, facts=facts)


def measured(
    server: services.Redis,
    fill: Callable[[services.Redis, Sequence[dict[str, Any]]], None],
    jobs: Sequence[dict[str, Any]],
) -> measure.Values:
    server.client.flushall()
    before = used(server)
    fill(server, jobs)
    enqueue.check(server.client, jobs)
    return {"bytes/job": (used(server) - before) / len(jobs)}


def used(server: services.Redis) -> int:
    """Bytes, once Redis has moved its keys into a table of their size: it does that in the background."""
    before, now = -1, 0
    while before != now:
        time.sleep(0.2)
        info: Any = server.client.info("memory")
        before, now = now, int(info["used_memory"])
    return now


if __name__ == "__main__":
    main()
