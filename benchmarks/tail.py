"""How long does the tail of an ensemble wait? Jobs of 1 ms to 2 s on two slots, against the ideal schedule.

1,000 jobs, log-uniform and seeded, that sleep. The ideal gives each job, in their order, to the slot that is
free first, and nothing takes time but the jobs. multiprocessing.Pool, which records nothing, has the same
jobs. A round of 1,000 jobs takes 130 s each. Writes benchmarks/results/tail.json.
"""

from __future__ import annotations

import heapq
import json
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

import measure
import payloads
import services

SHORTEST_S, LONGEST_S = 0.001, 2.0
SLOTS = 2
GOALS = [
    measure.Goal("tail: 1 ms to 2 s on 2 slots", "makespan / ideal", must=1.05, stretch=1.02, higher=False),
    measure.Goal("tail: 1 ms to 2 s on 2 slots", "idle s", higher=False),
]

POOL = """
import json, multiprocessing, sys, time

def nap(seconds):
    time.sleep(seconds)

if __name__ == "__main__":
    durations = json.load(sys.stdin)
    with multiprocessing.get_context("fork").Pool(int(sys.argv[1])) as pool:
        pool.map(nap, [0] * 100, chunksize=1)
        began = time.perf_counter()
        for _ in pool.imap(nap, durations, chunksize=1):
            pass
        print(json.dumps(time.perf_counter() - began))
"""


def main() -> None:
    parser = measure.arguments(__doc__, jobs=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    durations = log_uniform(options.jobs, options.seed)
    with services.running() as stack:
        ours(stack, [SHORTEST_S] * 10)
        runs = measure.interleave(
            {"cloudburst": partial(ours, stack, durations), "pool": partial(pool, durations)},
            options.repeats,
        )
    measure.report("tail", GOALS, runs, options, facts={"ideal_s": ideal_s(durations)})


def log_uniform(count: int, seed: int) -> list[float]:
    generator = random.Random(seed)
    low, high = math.log(SHORTEST_S), math.log(LONGEST_S)
    return [round(math.exp(generator.uniform(low, high)), 6) for _ in range(count)]


def ideal_s(durations: Sequence[float]) -> float:
    """Makespan of the list schedule: each job, in order, on the slot that is free first."""
    slots = [0.0] * SLOTS
    for duration in durations:
        heapq.heapreplace(slots, slots[0] + duration)
    return max(slots)


def ours(stack: services.Services, durations: Sequence[float]) -> measure.Values:
    """From the first start to the last record, by a worker that is started when the jobs are there."""
    ensemble = stack.stack.submit(
        "tail",
        payload=payloads.write(stack.directory / "payload"),
        function="worker.nap",
        jobs=({"seconds": seconds} for seconds in durations),
    )
    worker = stack.worker(slots=SLOTS)
    ended = services.ended_at(ensemble)
    records = list(ensemble.results())
    services.end(worker)
    stack.redis.client.flushall()
    return values(ended - min(record.started_at for record in records), durations)


def pool(durations: Sequence[float]) -> measure.Values:
    argv = [sys.executable, "-c", POOL, str(SLOTS)]
    done = subprocess.run(argv, input=json.dumps(durations), check=True, stdout=subprocess.PIPE, text=True)
    return values(json.loads(done.stdout), durations)


def values(makespan_s: float, durations: Sequence[float]) -> measure.Values:
    ideal = ideal_s(durations)
    return {"makespan / ideal": makespan_s / ideal, "idle s": makespan_s - ideal}


if __name__ == "__main__":
    main()
