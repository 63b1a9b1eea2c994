"""huey, results kept."""

import os
import sys

from huey import RedisHuey
from nothing import noop

# store_none: the job returns nothing, and its result is to be recorded all the same.
huey = RedisHuey("bench", url=os.environ["BENCH_URL"], results=True, store_none=True)
task = huey.task(name="noop")(noop)


def enqueue(descriptions):
    for description in descriptions:
        task(description)


def workers(processes):
    argv = [
        sys.executable,
        "-m",
        "huey.bin.huey_consumer",
        "with_huey.huey",
        "-w",
        str(processes),
        "-k",
        "process",
    ]
    return [[*argv, "--quiet"]]


def done(client, jobs):
    return client.hlen("huey.results.bench")
