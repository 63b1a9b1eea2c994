"""Celery, its prefork pool, results kept."""

import os
import sys

from celery import Celery
from nothing import noop

app = Celery("bench", broker=os.environ["BENCH_URL"], backend=os.environ["BENCH_URL"])
app.conf.worker_hijack_root_logger = False
task = app.task(noop, name="noop")


def enqueue(descriptions):
    with app.producer_pool.acquire(block=True) as producer:
        for description in descriptions:
            task.apply_async((description,), producer=producer)


def workers(processes):
    argv = [sys.executable, "-m", "celery", "-A", "with_celery", "worker", "--pool", "prefork"]
    argv += ["-c", str(processes)]
    return [[*argv, "--loglevel", "ERROR"]]


def done(client, jobs):
    return client.info("keyspace").get("db0", {}).get("expires", 0)  # results alone expire
