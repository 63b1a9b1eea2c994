"""A file that is written in the working directory, and one that nobody closes."""

import h5py
import numpy as np

left_open = []


def work(params):
    field = np.random.default_rng(params["n"]).random((4, 5))
    with h5py.File("state.h5", "w") as file:
        file["field"] = field
        file.attrs["n"] = params["n"]
    opened = h5py.File("state.h5", "r")
    left_open.append(opened)
    return {
        "n": int(opened.attrs["n"]),
        "sum": float(opened["field"][:].sum()),
        "shape": opened["field"].shape,
    }
