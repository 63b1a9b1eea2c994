"""What do 200 workers ask of one Redis, at rest and at work, and does a herd of them trample it?

The workers are real but for their executors, which sleep (``crew.py``); they and Redis share this machine. So
the rates are those of this machine, but what a job and a worker cost Redis is what they cost anywhere:
docs/scale.md draws its conclusions from that. Writes benchmarks/results/scale.json.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import payloads
import services

MOST_PER_S = 4000
"""Jobs that this many workers get through on one machine, at most."""

GOALS = [
    measure.Goal("200 idle workers", "Redis CPU %", ours="idle", higher=False, peers=()),
    measure.Goal("200 idle workers", "commands/s", ours="idle", higher=False, peers=()),
    *(
        measure.Goal(f"200 workers, jobs of {length}", "Redis ms/job", ours=length, higher=False, peers=())
        for length in ("0.1 s", "1 s", "10 s")
    ),
    measure.Goal("herd: one job, 200 idle workers", "seconds", ours="one job", higher=False, peers=()),
    measure.Goal("herd: 10,000 jobs at once", "seconds", ours="10,000 jobs", higher=False, peers=()),
]


def main() -> None:
    parser = measure.arguments(__doc__, jobs=10_000)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--slots", type=int, default=4, help="per worker (4)")
    parser.add_argument("--crews", type=int, default=8, help="processes that the workers share (8)")
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement (15)")
    options = parser.parse_args()
    with services.running() as stack:
        stack.redis.client.config_set("slowlog-log-slower-than", 1000)
        began = time.monotonic()
        crews = start(stack, options)
        print(f"{options.workers} workers in {time.monotonic() - began:.1f} s", file=sys.stderr)
        bench = Scale(stack, options.workers * options.slots, options.seconds)
        runs = measure.interleave(
            {
                "idle": bench.idle,
                "one job": lambda: bench.herd(1),
                "10,000 jobs": lambda: bench.herd(options.jobs),
                "0.1 s": lambda: bench.work(0.1),
                "1 s": lambda: bench.work(1.0),
                "10 s": lambda: bench.work(10.0),
            },
            options.repeats,
        )
        versions = {"redis-server": stack.redis.version}
        for crew in crews:
            crew.kill()
    measure.report("scale", GOALS, runs, options, versions=versions)


def start(stack: services.Services, options: Any) -> list[subprocess.Popen[bytes]]:
    each, left = divmod(options.workers, options.crews)
    crews, first = [], 0
    for number in range(options.crews):
        count = each + (number < left)
        numbers = (str(first), str(count), str(options.slots))
        argv = [sys.executable, str(Path(__file__).with_name("crew.py")), stack.redis.url]
        log = (stack.directory / "crew.log").open("ab")
        crews.append(
            subprocess.Popen(
                [*argv, str(stack.directory), *numbers], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        )
        first += count
    services.until(lambda: len(stack.stack.workers()) == options.workers, "the workers", 300, poll_s=0.5)
    return crews


class Scale:
    """The measurements; each begins and ends with an empty queue."""

    def __init__(self, stack: services.Services, slots: int, seconds: float) -> None:
        self.commands: dict[str, float] = {}
        """Calls per second of each command, those inside scripts too, in the last measurement."""
        self._stack = stack
        self._slots = slots
        self._seconds = seconds
        self._payload = payloads.write(stack.directory / "payload")

    def idle(self) -> measure.Values:
        time.sleep(5)  # all have noticed that there is nothing
        return self._observe(lambda: 0)

    def herd(self, jobs: int) -> measure.Values:
        """From the submission of jobs of 0.1 s to the end of the last, with all workers idle before."""
        time.sleep(5)
        usage = services.Usage(self._stack.redis.client)
        began = time.time()
        ensemble = self._submit(jobs, 0.1)
        ended = services.ended_at(ensemble, 600, poll_s=0.05)
        used = usage.since()
        first = min(record.started_at for record in ensemble.results())
        return {
            "seconds": ended - began,
            "ideal seconds": 0.1 * -(-jobs // self._slots),
            "first start after s": first - began,
            "Redis ms": used["cpu_s"] * 1000,
            "commands": used["commands"],
        }

    def work(self, seconds: float) -> measure.Values:
        """In the midst of an ensemble of jobs that take so long on average, and never run out."""
        rate = min(self._slots / seconds, MOST_PER_S)
        jobs = int(rate * (self._seconds + 2 * seconds + 10)) + 2 * self._slots
        self._stack.redis.client.set("rq:suspended", 1)  # all jobs are there before the first starts
        time.sleep(2)
        ensemble = self._submit(jobs, seconds)
        self._stack.redis.client.delete("rq:suspended")
        time.sleep(3 + 2 * seconds)
        values = self._observe(lambda: ensemble.status().ended)
        if not ensemble.status().waiting:
            raise SystemExit(f"jobs of {seconds} s: {jobs} were too few")
        values["slots busy %"] = 100 * values["jobs/s"] * seconds / self._slots
        ensemble.cancel()
        services.until(lambda: ensemble.status().complete, "the end", 60)
        return values

    def _submit(self, jobs: int, seconds: float) -> Any:
        generator = random.Random(1)
        descriptions = (
            # Not all of one length: they would end in step.
            {"seconds": round(seconds * generator.uniform(0.5, 1.5), 4)} | each
            for each in payloads.descriptions(jobs)
        )
        return self._stack.stack.submit(
            "scale", payload=self._payload, function="worker.nap", jobs=descriptions
        )

    def _observe(self, ended: Callable[[], int]) -> dict[str, float]:
        redis: Any = self._stack.redis.client
        redis.slowlog_reset()
        before, usage, pings = ended(), services.Usage(redis), []
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            began = time.perf_counter()
            redis.ping()
            pings.append((time.perf_counter() - began) * 1000)
            time.sleep(0.02)
        jobs, used, commands = ended() - before, usage.since(), usage.commands()
        self.commands = {name: row["calls"] / used["seconds"] for name, row in commands.items()}
        pings.sort()
        scripts = commands.get("evalsha", {"calls": 0, "usec": 0})
        slow = redis.slowlog_get(128)
        seconds = used["seconds"]
        values = {
            "jobs/s": jobs / seconds,
            "Redis CPU %": 100 * used["cpu_s"] / seconds,
            "commands/s": used["commands"] / seconds,
            "round trips/s": used["replies"] / seconds,
            "KiB in/s": used["bytes_in"] / seconds / 1024,
            "KiB out/s": used["bytes_out"] / seconds / 1024,
            "scripts/s": scripts["calls"] / seconds,
            "us/script": scripts["usec"] / max(scripts["calls"], 1),
            "longest script ms": max((entry["duration"] / 1000 for entry in slow), default=1.0),
            "ping median ms": pings[len(pings) // 2],
            "ping 99 % ms": pings[len(pings) * 99 // 100],
            "connections": redis.info("clients")["connected_clients"],
        }
        if jobs:
            values |= {
                "Redis ms/job": used["cpu_s"] * 1000 / jobs,
                "commands/job": used["commands"] / jobs,
                "round trips/job": used["replies"] / jobs,
                "bytes in/job": used["bytes_in"] / jobs,
                "bytes out/job": used["bytes_out"] / jobs,
            }
        return values


if __name__ == "__main__":
    main()
