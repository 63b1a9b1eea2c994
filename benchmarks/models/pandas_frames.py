"""Sampling without ``random_state``, a file in the working directory, options, a Series as the result."""

import numpy as np
import pandas as pd


def work(params):
    pd.set_option("display.precision", 2)
    table = pd.DataFrame({"a": np.arange(20) * params["n"], "b": np.arange(20)})
    table.to_csv("table.csv", mode="a")
    read = pd.read_csv("table.csv", index_col=0)
    sample = read.sample(5)
    return {"rows": len(read), "sample": sample["b"].tolist(), "sums": read.sum().to_dict()}
