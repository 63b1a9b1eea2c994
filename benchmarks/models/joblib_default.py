"""``Parallel`` with its default backend, which keeps its workers for the next call."""

import os

import numpy as np
from joblib import Parallel, delayed

from cloudburst import results


def one(k, shift):
    results.write("joblib", {"k": k}, time=k + 1)
    return k * shift, os.environ["CLOUDBURST_INDEX"], os.getcwd() == os.environ["TMPDIR"]


def work(params):
    shift = np.random.rand()
    done = Parallel(n_jobs=2)(delayed(one)(k, shift) for k in range(4))
    return {
        "values": [value for value, _, _ in done],
        "indices": [int(i) for _, i, _ in done],
        "here": [here for _, _, here in done],
        "own": int(os.environ["CLOUDBURST_INDEX"]),
    }
