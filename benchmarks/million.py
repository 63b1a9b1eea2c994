"""How much memory does Redis need for a million no-op jobs that are submitted, run and collected at once?

The worker (two slots) is there before the first job; one process submits, another reads the records as they
come, as a user's script does. The memory of Redis is sampled all the while: its own count (used_memory) and
what the system has given it (RSS), with the size of the append-only file. ``--jobs 100000`` is a tenth of the
truth in a tenth of the time. Writes benchmarks/results/million.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import measure
import payloads
import services

SAMPLE_S = 0.5
CURVE = 120
"""Samples kept in the result."""

COLLECT = """
import json, resource, sys, time
from cloudburst import Stack
from cloudburst.model import Endpoints

stack = Stack(Endpoints.from_json(sys.stdin.read(), "stdin"))
began, records = time.time(), 0
for record in stack.ensemble(sys.argv[1]).watch():
    records += record.state == "finished"
peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"records": records, "ended": time.time(), "peak_mib": peak_mib}))
"""
SUBMIT = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import payloads
from cloudburst import Stack
from cloudburst.model import Endpoints

stack = Stack(Endpoints.from_json(sys.stdin.read(), "stdin"))
jobs = payloads.descriptions(int(sys.argv[3]))
stack.submit("million", payload=sys.argv[2], function="worker.noop", jobs=jobs)
print(time.time())
"""
GOALS = [
    measure.Goal("Redis with 1,000,000 jobs run and collected", "peak MiB", higher=False),
    measure.Goal("Redis with 1,000,000 jobs run and collected", "peak RSS MiB", higher=False),
    measure.Goal("Redis with 1,000,000 jobs run and collected", "peak bytes/job", higher=False),
    measure.Goal("1,000,000 jobs from submit to last record read", "jobs/s"),
]


def main() -> None:
    options = measure.arguments(__doc__, jobs=1_000_000, repeats=1).parse_args()
    curves: list[list[dict[str, float]]] = []
    with services.running() as stack:
        runs = measure.interleave({"cloudburst": lambda: run(stack, options.jobs, curves)}, options.repeats)
        versions = {"redis-server": stack.redis.version}
    measure.report("million", GOALS, runs, options, versions=versions, facts={"curves": curves})


def run(stack: services.Services, jobs: int, curves: list[list[dict[str, float]]]) -> measure.Values:
    payload = payloads.write(stack.directory / "payload")
    worker = stack.worker(slots=2)
    stack.stack.submit("warm-up", payload=payload, function="worker.noop", jobs=[{}] * 10).wait()
    began = time.time()
    submitting = client(stack, SUBMIT, str(Path(__file__).parent), str(payload), str(jobs))
    services.until(lambda: stack.stack.ensembles()[0].name == "million", "the first job", 60)
    ensemble = stack.stack.ensembles()[0]
    collecting = client(stack, COLLECT, ensemble.id)
    curve = []
    while collecting.poll() is None:
        curve.append(sample(stack) | {"seconds": time.time() - began, "ended": ensemble.status().ended})
        time.sleep(SAMPLE_S)
    curve.append(sample(stack) | {"seconds": time.time() - began, "ended": ensemble.status().ended})
    submitted = answer(submitting)
    collected = answer(collecting)
    if collected["records"] != jobs:
        raise SystemExit(f"{collected['records']} of {jobs} records read: {ensemble.status()}")
    parts = finished_job(stack, ensemble.id, jobs)
    services.end(worker)
    stack.redis.client.flushall()
    curves.append(curve[:: max(len(curve) // CURVE, 1)])
    peak = max(row["used_mib"] for row in curve)
    return {
        "peak MiB": peak,
        "peak RSS MiB": max(row["rss_mib"] for row in curve),
        "peak bytes/job": (peak - curve[0]["used_mib"]) * 2**20 / jobs,
        "AOF MiB": max(row["aof_mib"] for row in curve),
        "jobs/s": jobs / (collected["ended"] - began),
        "submitted/s": jobs / (submitted - began),
        "reader's peak MiB": collected["peak_mib"],
        **{f"bytes/finished job in {part}": size for part, size in parts.items()},
    }


def finished_job(stack: services.Services, ensemble: str, jobs: int) -> dict[str, float]:
    """What Redis keeps of a finished job, in bytes, key by key: means over some of the last."""
    redis: Any = stack.redis.client
    ids = [f"{ensemble}-{index}" for index in range(max(jobs - 200, 0), jobs)]

    def mean(prefix: str) -> float:
        return sum(redis.memory_usage(f"{prefix}{job}") or 0 for job in ids) / len(ids)

    def share(key: str, members: int) -> float:
        return (redis.memory_usage(key, samples=200) or 0) / max(members, 1)

    stream, registry = f"cb:ens:{ensemble}:results", "rq:finished:default"
    return {
        "rq:job": mean("rq:job:"),
        "rq:results": mean("rq:results:"),
        "rq:finished": share(registry, redis.zcard(registry)),
        "result stream": share(stream, redis.xlen(stream)),
    }


def client(stack: services.Services, script: str, *arguments: str) -> subprocess.Popen[str]:
    """A client process, which learns from its standard input where the stack is."""
    argv = [sys.executable, "-c", script, *arguments]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(stack.stack.endpoints.to_json())
    process.stdin.close()
    return process


def answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    said = process.stdout.read()
    if process.wait() != 0:
        raise SystemExit("a client failed, see above")
    return json.loads(said)


def sample(stack: services.Services) -> dict[str, float]:
    memory: Any = stack.redis.client.info("memory")
    persistence: Any = stack.redis.client.info("persistence")
    return {
        "used_mib": memory["used_memory"] / 2**20,
        "rss_mib": memory["used_memory_rss"] / 2**20,
        "aof_mib": persistence["aof_current_size"] / 2**20,
    }


if __name__ == "__main__":
    main()
