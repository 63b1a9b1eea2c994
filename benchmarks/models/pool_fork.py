"""A pool of forked processes in each job; it is not closed."""

import multiprocessing
import os

import numpy as np

rng = np.random.default_rng()


def one(k):
    return k**2, os.environ["CLOUDBURST_INDEX"]


def work(params):
    pool = multiprocessing.get_context("fork").Pool(2)
    return {"squares": pool.map(one, range(6)), "shift": float(rng.random())}
