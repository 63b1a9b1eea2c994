"""How many jobs per second does one client process enqueue, so that stock RQ sees them?

From Python dicts in a list to jobs in Redis, JSON encoding and acknowledgement included; the payload is in
the file store already. ``cloudburst`` is ``Stack.submit``. The peers are stock RQ (``Queue.enqueue``, and
``enqueue_many`` in batches of 1,000) with its JSON serializer, and a bare redis-py pipeline of HSET and
RPUSH, 500 jobs at a time, with the fields that ours writes. All on a Redis without persistence;
``cloudburst, AOF`` is ours on the Redis of a stack, which writes an append-only file. Each checks
afterwards that stock RQ reads the last job. Writes benchmarks/results/enqueue.json.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

import measure
import payloads
import services
from cloudburst import Stack
from cloudburst.model import Endpoints

ROW = "enqueue from one client"
GOALS = [measure.Goal(ROW, "jobs/s", must=25_000, stretch=50_000)]
BATCH = 1000
CHUNK = 500

Descriptions = Sequence[dict[str, Any]]


def main() -> None:
    parser = measure.arguments(__doc__, jobs=100_000, repeats=5)
    parser.add_argument("--rq-jobs", type=int, default=10_000, help="per round of stock RQ (10,000)")
    options = parser.parse_args()
    jobs = list(payloads.descriptions(options.jobs))
    few = jobs[: options.rq_jobs]
    with services.bare_redis() as bare, redis_of_a_stack() as persistent:
        ways = {
            "cloudburst": partial(timed, bare, ours, jobs),
            "cloudburst, AOF": partial(timed, persistent, ours, jobs),
            "rq enqueue": partial(timed, bare, rq_enqueue, few),
            "rq enqueue_many": partial(timed, bare, rq_enqueue_many, few),
            "pipeline": partial(timed, bare, pipeline, jobs),
        }
        runs = measure.interleave(ways, options.repeats)
        version = bare.version
    measure.report("enqueue", GOALS, runs, options, versions={"redis-server": version})


@contextlib.contextmanager
def redis_of_a_stack() -> Iterator[services.Redis]:
    """Redis as a stack runs it, with its append-only file."""
    with tempfile.TemporaryDirectory(prefix="cloudburst-bench-", ignore_cleanup_errors=True) as directory:
        server = services.Redis(Path(directory) / "redis")
        try:
            yield server
        finally:
            server.stop()


def timed(
    server: services.Redis, enqueue: Callable[[services.Redis, Descriptions], None], jobs: Descriptions
) -> measure.Values:
    server.client.flushall()
    usage = services.Usage(server.client)
    cpu = time.process_time()
    began = time.perf_counter()
    enqueue(server, jobs)
    seconds = time.perf_counter() - began
    client_s, redis_s = time.process_time() - cpu, usage.since()["cpu_s"]
    check(server.client, jobs)
    each = 1e6 / len(jobs)
    return {"jobs/s": len(jobs) / seconds, "client us/job": client_s * each, "Redis us/job": redis_s * each}


def check(client: redis.Redis, jobs: Descriptions) -> None:
    """All are in the queue, and stock RQ reads the last."""
    queue = Queue(connection=client, serializer=JSONSerializer)
    job = Job.fetch(queue.get_job_ids(-1, 1)[0], connection=client, serializer=JSONSerializer)
    if queue.count != len(jobs) or job.args[0] != jobs[-1] or job.func_name != "worker.noop":
        raise SystemExit(f"{queue.count} jobs, the last is {job.func_name}{job.args}")


def ours(server: services.Redis, jobs: Descriptions) -> None:
    nowhere = {"filestore_url": "http://127.0.0.1:1", "influx_url": "", "influx_token": ""}
    stack = Stack(Endpoints(stack="benchmark", redis_url=server.url, filestore_token="", **nowhere))
    stack.submit("noop", function="worker.noop", jobs=jobs)


def rq_enqueue(server: services.Redis, jobs: Descriptions) -> None:
    queue = Queue(connection=server.client, serializer=JSONSerializer)
    for job in jobs:
        queue.enqueue("worker.noop", job)


def rq_enqueue_many(server: services.Redis, jobs: Descriptions) -> None:
    queue = Queue(connection=server.client, serializer=JSONSerializer)
    for first in range(0, len(jobs), BATCH):
        queue.enqueue_many([Queue.prepare_data("worker.noop", (job,)) for job in jobs[first : first + BATCH]])


def pipeline(server: services.Redis, jobs: Descriptions) -> None:
    for first in range(0, len(jobs), CHUNK):
        with server.client.pipeline(transaction=False) as pipe:
            ids = []
            for index, job in enumerate(jobs[first : first + CHUNK], first):
                job_id = f"pipeline-abcdef-{index}"
                ids.append(job_id)
                fields = {
                    "status": "queued",
                    "origin": "default",
                    "created_at": "2026-01-01T00:00:00.000000Z",
                    "data": f'["worker.noop",null,[{json.dumps(job, separators=(",", ":"))}],{{}}]',
                    "timeout": -1,
                    "cb_ens": "pipeline-abcdef",
                    "cb_index": index,
                }
                pipe.hset(f"rq:job:{job_id}", mapping=fields)
            pipe.rpush("rq:queue:default", *ids)
            pipe.execute()


if __name__ == "__main__":
    main()
