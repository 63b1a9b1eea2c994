"""dramatiq, eight threads, results kept."""

import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from nothing import noop

broker = RedisBroker(url=os.environ["BENCH_URL"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_URL"]), store_results=True))
dramatiq.set_broker(broker)
task = dramatiq.actor(noop)


def enqueue(descriptions):
    for description in descriptions:
        task.send(description)


def workers(processes):
    argv = [sys.executable, "-m", "dramatiq", "with_dramatiq", "--threads", "8"]
    argv += ["--processes", str(processes)]
    return [[*argv, "--skip-logging"]]


def done(client, jobs):
    return jobs - client.hlen("dramatiq:default.msgs")  # acknowledged after the result was stored
