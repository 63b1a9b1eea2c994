"""SAQ, results kept."""

import asyncio
import os
import sys

import nothing
from saq import Queue

queue = Queue.from_url(os.environ["BENCH_URL"])


async def noop(ctx, *, params):
    nothing.noop(params)


settings = {"queue": queue, "functions": [noop], "concurrency": 10}


def enqueue(descriptions):
    async def send():
        await queue.connect()
        for description in descriptions:
            await queue.enqueue("noop", params=description)
        await queue.disconnect()

    asyncio.run(send())


def workers(processes):
    return [[sys.executable, "-m", "saq", "with_saq.settings", "--quiet"]] * processes


def done(client, jobs):
    return jobs - client.zcard("saq:default:incomplete")
