"""Runs no-op jobs on one peer: ``drive.py PEER REDIS_URL JOBS PROCESSES``, in the environment of the peers.

The jobs are enqueued, then the worker processes are started; the time runs from the first start of a job to
the last recorded result. Prints it as JSON, with what Redis has done meanwhile.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

HERE = Path(__file__).resolve().parent
POLL_S = 0.02
LONGEST_S = 300


def main() -> None:
    name, url, jobs, processes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    sys.path[1:1] = [str(HERE.parent)]
    with tempfile.TemporaryDirectory(prefix="cloudburst-bench-") as scratch:
        os.environ["BENCH_URL"] = url
        os.environ["BENCH_STARTED"] = f"{scratch}/started"
        os.environ["PYTHONPATH"] = str(HERE)
        os.chdir(scratch)
        peer = importlib.import_module(f"with_{name}")
        print(json.dumps(run(peer, url, jobs, processes)))


def run(peer, url: str, jobs: int, processes: int) -> dict[str, float]:
    from payloads import descriptions

    client = redis.Redis.from_url(url)
    if hasattr(peer, "run"):  # it has no queue that keeps jobs while no worker is there
        return {"jobs": jobs, "seconds": peer.run(descriptions(jobs), processes)}
    peer.enqueue(descriptions(jobs))
    client.config_resetstat()
    cpu = cpu_s(client)
    with open("worker.log", "wb") as log:
        workers = [subprocess.Popen(argv, stdout=log, stderr=log) for argv in peer.workers(processes)]
    try:
        deadline = time.monotonic() + LONGEST_S
        while peer.done(client, jobs) < jobs:
            if time.monotonic() > deadline or any(w.poll() is not None for w in workers):
                done = peer.done(client, jobs)
                said = Path("worker.log").read_text(errors="replace")[-2000:]
                sys.exit(f"{peer.__name__}: {done} of {jobs} jobs done; its workers said:\n{said}")
            time.sleep(POLL_S)
        ended = time.time()
        stats = client.info("stats")
        return {
            "jobs": jobs,
            "seconds": ended - os.stat(os.environ["BENCH_STARTED"]).st_mtime,
            "cpu_s": cpu_s(client) - cpu,
            "commands": sum(row["calls"] for row in client.info("commandstats").values()),
            "replies": stats["total_writes_processed"],
        }
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            try:
                worker.wait(5)
            except subprocess.TimeoutExpired:
                worker.kill()


def cpu_s(client: redis.Redis) -> float:
    info = client.info("cpu")
    return info["used_cpu_user"] + info["used_cpu_sys"]


if __name__ == "__main__":
    main()
