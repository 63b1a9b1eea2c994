"""``pyplot`` as in a notebook: one implicit figure, never closed."""

import hashlib
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


def work(params):
    plt.plot(np.arange(10) * params["n"], label=f"run {params['n']}")
    plt.legend()
    lines = len(plt.gca().lines)
    plt.savefig("figure.png", metadata={"Software": None})
    figure, axes = plt.subplots()
    axes.hist(np.random.rand(50))
    figure.savefig("histogram.png", metadata={"Software": None})
    digests = [
        hashlib.sha256(Path(name).read_bytes()).hexdigest()[:12] for name in ("figure.png", "histogram.png")
    ]
    return {"lines": lines, "figures": plt.get_fignums(), "digests": digests}
