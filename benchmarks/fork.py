"""What does ``isolation = "fork"`` cost per job when the payload has imported wntr?

One slot, no-op jobs, against what nobody can do without: ``os.fork``, ``os._exit`` and ``os.waitpid`` of a
process of the same interpreter, with the same imports, at the same nice level. Stock RQ forks a process
without these imports. Writes benchmarks/results/fork.json.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import partial
from pathlib import Path

import measure
import noop
import payloads
import peers
import services
from cloudburst.worker.inside import lifelines

EXAMPLE = Path(__file__).resolve().parent.parent / "client" / "example"
MODULE = f"import wntr\nfrom influxdb_client import InfluxDBClient\n{payloads.MODULE}"
SETTINGS = 'isolation = "fork"\n'
GOALS = [
    measure.Goal(
        'isolation = "fork", wntr imported',
        "ms/job",
        must=1.25,
        stretch=1.1,
        of="bare fork",
        higher=False,
    )
]

BARE = f"""
import json, os, sys, time
os.nice({lifelines.NICE})
sys.path.insert(0, sys.argv[1])
import worker
jobs = int(sys.argv[2])
began = time.perf_counter()
for _ in range(jobs):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
print(json.dumps((time.perf_counter() - began) * 1000 / jobs))
"""


def main() -> None:
    options = measure.arguments(__doc__, jobs=500).parse_args()
    with services.running() as stack:
        payload = payloads.write(stack.directory / "fork", MODULE, SETTINGS)
        for name in ("Pipfile", "Pipfile.lock"):
            shutil.copy(EXAMPLE / name, payload)
        noop.run(stack, payload, 1, slots=1, points=False)
        (python,) = stack.directory.glob("worker/environments/*/.venv/bin/python")
        runs = measure.interleave(
            {
                "cloudburst": partial(ours, stack, payload, options.jobs),
                "bare fork": partial(bare, python, payload, options.jobs),
                "rq_fork": partial(stock, options.jobs // 4),
            },
            options.repeats,
        )
        versions = peers.versions() | {"redis-server": stack.redis.version}
    measure.report("fork", GOALS, runs, options, versions=versions)


def ours(stack: services.Services, payload: Path, jobs: int) -> measure.Values:
    values = noop.run(stack, payload, jobs, slots=1, points=False)
    return {"ms/job": 1000 / values["jobs/s"]}


def bare(python: Path, payload: Path, jobs: int) -> measure.Values:
    argv = [str(python), "-c", BARE, str(payload), str(jobs)]
    return {"ms/job": json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)}


def stock(jobs: int) -> measure.Values:
    return {"ms/job": 1000 / peers.run("rq_fork", jobs, processes=1)["jobs/s"]}


if __name__ == "__main__":
    main()
