"""A compiled kernel with generators of its own, which are seeded as docs/payloads.md says."""

import os

import numpy as np
from numba import njit


@njit
def walk(steps, seed):
    np.random.seed(seed)
    position = 0.0
    for _ in range(steps):
        position += np.random.normal()
    return position


@njit(parallel=True)
def squares(values):
    return (values**2).sum()


def work(params):
    seed = int(os.environ["CLOUDBURST_SEED"])
    return {"walk": walk(200, seed), "squares": float(squares(np.arange(100.0) + params["n"]))}
