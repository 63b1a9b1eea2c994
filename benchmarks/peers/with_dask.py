"""Dask's distributed scheduler; it keeps nothing on disk and needs no Redis."""

import time

import nothing
from distributed import Client, LocalCluster


def run(descriptions, processes):
    """Seconds from handing over the jobs to having all results: its client is part of it."""
    jobs = list(descriptions)
    with (
        LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(nothing.noop, jobs[:10], pure=False))
        began = time.perf_counter()
        client.gather(client.map(nothing.noop, jobs, pure=False))
        return time.perf_counter() - began
