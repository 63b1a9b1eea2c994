"""A cache on disk in the working directory, and arrays that are mapped from it."""

import numpy as np
from joblib import Memory, Parallel, delayed

calls = []


def slow(n):
    calls.append(n)
    return np.arange(n + 3.0) ** 2


def work(params):
    calls.clear()
    cached = Memory("cache", verbose=0).cache(slow)
    total = [float(cached(params["n"]).sum()) for _ in range(3)]
    big = np.full(300_000, float(params["n"]))  # large enough to be mapped
    means = Parallel(n_jobs=2)(delayed(np.mean)(big[k:]) for k in range(2))
    return {"total": total, "calls": len(calls), "means": [float(mean) for mean in means]}
