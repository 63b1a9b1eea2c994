"""A generator at the top of the module, as NumPy's own guide begins."""

import numpy as np

rng = np.random.default_rng()


def work(params):
    return {"mean": float(rng.normal(size=100).mean()), "choice": rng.permutation(10).tolist()}
