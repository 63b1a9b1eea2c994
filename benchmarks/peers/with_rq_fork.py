"""Stock RQ as most run it: a fork per job."""

import os
import sys

import redis
from rq import Queue

CLASS = "rq.worker.Worker"


def enqueue(descriptions):
    queue = Queue(connection=redis.Redis.from_url(os.environ["BENCH_URL"]))
    queue.enqueue_many([Queue.prepare_data("nothing.noop", (description,)) for description in descriptions])


def workers(processes, kind=CLASS):
    argv = [sys.executable, "-m", "rq.cli", "worker", "-q", "-w", kind, "--url", os.environ["BENCH_URL"]]
    return [argv] * processes


def done(client, jobs):
    return client.zcard("rq:finished:default")
