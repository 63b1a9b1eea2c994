"""The default of Python 3.14: a server that forks, and a Manager beside it."""

import multiprocessing
import os

import numpy as np


def one(shared, k):
    shared[k] = k + 1
    return os.environ["CLOUDBURST_INDEX"]


def work(params):
    context = multiprocessing.get_context("forkserver")
    with context.Manager() as manager:
        shared = manager.dict()
        with context.Pool(2) as pool:
            indices = pool.starmap(one, [(shared, k) for k in range(3)])
        return {
            "indices": indices,
            "shared": dict(sorted(shared.items())),
            "normal": float(np.random.normal()),
        }
