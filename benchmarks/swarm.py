"""What does the network between machines cost? Net3 on two nodes with a CPU each, and locally with two slots.

A stack is deployed onto three virtual machines of this one (tests/swarm): the master and one node share a
CPU, the other node has another. Both ways run the same ensemble in turn, with warm executors, and are timed
from the submission to the last result. Needs root. Writes benchmarks/results/swarm.json, with how long the
first deployment took, and one that had nothing to do.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import measure
from cloudburst import Stack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from net3 import finish, local_stack, submit, warm_up
from tests.swarm import images
from tests.swarm.deployed import Deployed
from tests.swarm.machines import Farm, why_not

GOALS = [measure.Goal("Net3 on 2 nodes", "jobs/s", must=0.8, stretch=0.95, of="local", ours="swarm")]


def main() -> None:
    options = measure.arguments(__doc__, jobs=120, repeats=3).parse_args()
    reason = why_not()
    if reason:
        raise SystemExit(reason)
    with Farm() as farm, tempfile.TemporaryDirectory(prefix="cloudburst-bench-") as home:
        images.provide(farm)
        deployed = Deployed(
            farm, [farm.machine(name, cpus={cpu}) for name, cpu in zip("mab", (0, 0, 1), strict=True)]
        )
        times = {"first deployment": timed(deployed), "with nothing to do": timed(deployed)}
        with local_stack(home, 2) as local:
            swarm = deployed.stack()
            for stack in (local, swarm):
                warm_up(stack, 2)
            runs = measure.interleave(
                {"swarm": lambda: run(swarm, options.jobs), "local": lambda: run(local, options.jobs)},
                options.repeats,
            )
    measure.report("swarm", GOALS, runs, options, facts={"deployment_s": times})


def timed(deployed: Deployed) -> float:
    began = time.perf_counter()
    deployed.run("up")
    return round(time.perf_counter() - began, 1)


def run(stack: Stack, jobs: int) -> measure.Values:
    began = time.perf_counter()
    finish(submit(stack, jobs))
    return {"jobs/s": jobs / (time.perf_counter() - began)}


if __name__ == "__main__":
    main()
