"""Executors of ``concurrent.futures``: threads that the module keeps, processes that each job leaves."""

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np

threads = ThreadPoolExecutor(2)


def index(_):
    return os.environ["CLOUDBURST_INDEX"]


def work(params):
    processes = ProcessPoolExecutor(2)
    squares = list(threads.map(lambda k: k**2, range(5)))
    return {
        "squares": squares,
        "indices": list(processes.map(index, range(3))),
        "poisson": int(np.random.poisson(50)),
    }
