"""taskiq, results kept."""

import asyncio
import os
import sys

import nothing
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

url = os.environ["BENCH_URL"]
broker = ListQueueBroker(url).with_result_backend(RedisAsyncResultBackend(url, result_ex_time=3600))


@broker.task
async def task(params):  # not a plain function: it would be handed to a pool of threads, which is slower
    nothing.noop(params)


def enqueue(descriptions):
    async def send():
        await broker.startup()
        for description in descriptions:
            await task.kiq(description)
        await broker.shutdown()

    asyncio.run(send())


def workers(processes):
    argv = [sys.executable, "-m", "taskiq", "worker", "with_taskiq:broker", "--workers", str(processes)]
    return [[*argv, "--log-level", "WARNING"]]


def done(client, jobs):
    return client.info("keyspace").get("db0", {}).get("expires", 0)  # results alone expire
