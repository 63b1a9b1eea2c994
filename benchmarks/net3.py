"""How close does CloudBurst come to a bare process pool, and how far ahead of stock RQ is it, on Net3?

Three ways to run the jobs of client/example on the same number of processes, in turn, several times:

- ``cloudburst``: an ensemble on a local stack that has the environment and warm executors;
- ``pool``: ``multiprocessing.Pool`` with wntr imported beforehand, the ceiling: no queue, nothing recorded;
- ``rq``: as many stock ``rq worker`` processes, which fork for each job and import wntr in it.

All three use the same interpreter and environment, write the same points to the same endpoint, and are timed
from the first submission to the last result. Writes benchmarks/results/net3.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from rq import Queue

import measure
from cloudburst import Stack
from cloudburst.ensemble.ensemble import Ensemble
from cloudburst.rqwire.connection import connect

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "client" / "example"

GOALS = [measure.Goal("Net3 on 2 slots", "jobs/s", must=0.95, stretch=0.99, of="pool")]

POOL = """
import json, multiprocessing, os, sys, tempfile, time
sys.path.insert(0, sys.argv[1])
import worker

def start():
    os.chdir(tempfile.mkdtemp(dir=sys.argv[4]))

if __name__ == "__main__":
    processes, jobs = int(sys.argv[2]), int(sys.argv[3])
    with multiprocessing.Pool(processes, initializer=start) as pool:
        descriptions = [{"seed": seed, "ensemble": "pool"} for seed in range(jobs)]
        pool.map(worker.work, descriptions[:processes * 4], chunksize=1)
        began = time.perf_counter()
        done = list(pool.imap(worker.work, descriptions, chunksize=1))
        print(json.dumps({"jobs": len(done), "seconds": time.perf_counter() - began}))
"""


def main() -> None:
    parser = measure.arguments(__doc__, jobs=120, repeats=5)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rq-jobs", type=int, default=8, help="per round of stock rq (8)")
    options = parser.parse_args()

    with (
        tempfile.TemporaryDirectory(prefix="cloudburst-bench-") as home,
        local_stack(home, options.slots) as stack,
    ):
        warm_up(stack, options.slots)
        environ = job_environ(stack, home)
        runs = measure.interleave(
            {
                "cloudburst": lambda: run_cloudburst(stack, options.jobs),
                "pool": lambda: run_pool(environ, home, options.slots, options.jobs),
                "rq": lambda: run_rq(stack, environ, home, options.slots, options.rq_jobs),
            },
            options.repeats,
        )
    measure.report("net3", GOALS, runs, options)


@contextlib.contextmanager
def local_stack(home: str, slots: int) -> Iterator[Stack]:
    """A stack of its own on free ports."""
    os.environ["CLOUDBURST_HOME"] = home
    cloudburst = [str(Path(sys.executable).with_name("cloudburst")), "stack"]
    ports = [f"--{service}-port=0" for service in ("redis", "file", "influx", "dash")]
    subprocess.run([*cloudburst, "up", "--local", "-n", str(slots), *ports], check=True, stdout=sys.stderr)
    try:
        yield Stack.connect("local")
    finally:
        subprocess.run([*cloudburst, "down", "--local"], check=True, stdout=sys.stderr)


def warm_up(stack: Stack, slots: int) -> None:
    finish(submit(stack, slots * 4))


def submit(stack: Stack, jobs: int) -> Ensemble:
    descriptions = ({"seed": seed, "ensemble": "cloudburst"} for seed in range(jobs))
    return stack.submit("net3", payload=EXAMPLE, function="worker.work", jobs=descriptions)


def finish(ensemble: Ensemble) -> None:
    states = [record.state for record in ensemble.watch()]
    if set(states) != {"finished"}:
        raise SystemExit(f"{ensemble.id}: not all jobs finished: {ensemble.status()}")


def job_environ(stack: Stack, home: str) -> dict[str, str]:
    """What executors give to a job: threads pinned, the same database, the worker's environment."""
    where = stack.endpoints
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CLOUDBURST"))}
    environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environ |= {"INFLUX_URL": where.influx_url, "INFLUX_TOKEN": where.influx_token}
    environ |= {"INFLUX_ORG": where.influx_org, "INFLUX_BUCKET": where.influx_bucket}
    (python,) = Path(home).glob("local/worker/environments/*/.venv/bin/python")
    return environ | {"BENCH_PYTHON": str(python)}


def run_cloudburst(stack: Stack, jobs: int) -> measure.Values:
    began = time.perf_counter()
    finish(submit(stack, jobs))
    return {"jobs/s": jobs / (time.perf_counter() - began)}


def run_pool(environ: dict[str, str], home: str, slots: int, jobs: int) -> measure.Values:
    script = Path(home) / "pool.py"
    script.write_text(POOL)
    argv = [environ["BENCH_PYTHON"], str(script), str(EXAMPLE), str(slots), str(jobs), home]
    answer = json.loads(subprocess.run(argv, env=environ, check=True, capture_output=True, text=True).stdout)
    return {"jobs/s": answer["jobs"] / answer["seconds"]}


def run_rq(stack: Stack, environ: dict[str, str], home: str, slots: int, jobs: int) -> measure.Values:
    """Stock workers on a queue of their own, with rq beside the payload's packages."""
    extra = Path(home) / "rq"
    if not extra.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", f"rq=={version('rq')}", "--target", str(extra)],
            check=True,
        )
    redis = connect(stack.endpoints.redis_url)
    queue = Queue("stock", connection=redis)
    scratch = Path(home) / "rq-scratch"
    workers = []
    for number in range(slots):
        directory = scratch / str(number)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(EXAMPLE, directory)
        argv = [
            environ["BENCH_PYTHON"],
            "-m",
            "rq.cli",
            "worker",
            "-q",
            "--url",
            stack.endpoints.redis_url,
            "stock",
        ]
        env = environ | {"PYTHONPATH": f"{extra}:{EXAMPLE}"}
        workers.append(subprocess.Popen(argv, env=env, cwd=directory))
    while redis.scard("rq:workers:stock") < slots:
        time.sleep(0.05)
    began = time.perf_counter()
    pending = [queue.enqueue("worker.work", {"seed": s, "ensemble": "rq"}) for s in range(jobs)]
    while pending:
        pending = [job for job in pending if job.get_status(refresh=True) != "finished"]
        if any(job.is_failed for job in pending):
            raise SystemExit("a stock rq job failed")
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.terminate()
        worker.wait()
    return {"jobs/s": jobs / seconds}


if __name__ == "__main__":
    main()
