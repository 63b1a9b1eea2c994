"""A pool of spawned processes, which import this module again; ``set_start_method`` as on macOS."""

import multiprocessing
import os
import random

from cloudburst import results  # noqa: F401 (as the docs show; a child has to find it, too)


def one(k):
    return k**3, os.environ["CLOUDBURST_INDEX"]


def work(params):
    multiprocessing.set_start_method("spawn", force=True)
    with multiprocessing.Pool(2) as pool:
        return {"cubes": pool.map(one, range(4)), "random": random.random()}
