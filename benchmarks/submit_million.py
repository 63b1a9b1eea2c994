"""How much memory does a client need to submit a million jobs?

A process of its own that submits them from a generator, as users are told to; the largest size that it had
(``VmHWM``). The time includes making the descriptions. ``import`` is a process that only imports the
package and connects: the difference is what the submission needs. ``rq enqueue_many`` is stock RQ, with a
batch of 1,000 jobs at a time and fewer jobs in all. Writes benchmarks/results/submit_million.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import enqueue
import measure
import services

ROW = "client that submits a million jobs"
GOALS = [
    measure.Goal(ROW, "MB", must=200, stretch=100, higher=False),
    measure.Goal(ROW, "jobs/s", peers=("rq enqueue_many",)),
]

CLIENT = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
way, url, jobs = sys.argv[2], sys.argv[3], int(sys.argv[4])
import payloads
from cloudburst import Stack
from cloudburst.model import Endpoints

began = time.perf_counter()
if way == "rq":
    from itertools import islice
    import redis
    from rq import Queue
    from rq.serializers import JSONSerializer
    queue = Queue(connection=redis.Redis.from_url(url), serializer=JSONSerializer)
    descriptions = payloads.descriptions(jobs)
    while batch := [Queue.prepare_data("worker.noop", (job,)) for job in islice(descriptions, 1000)]:
        queue.enqueue_many(batch)
else:
    stack = Stack(Endpoints(stack="benchmark", redis_url=url, filestore_url="http://127.0.0.1:1",
                            filestore_token="", influx_url="", influx_token=""))
    stack.queue_depth()
    if jobs:
        stack.submit("noop", function="worker.noop", jobs=payloads.descriptions(jobs))
seconds = time.perf_counter() - began
# Not ru_maxrss: that also counts the parent, as which a process begins.
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps([int(peak) * 1024 / 1e6, seconds]))
"""


def main() -> None:
    parser = measure.arguments(__doc__, jobs=1_000_000)
    parser.add_argument("--rq-jobs", type=int, default=50_000, help="per round of stock RQ (50,000)")
    options = parser.parse_args()
    with services.bare_redis() as bare:
        ways = {
            "cloudburst": partial(measured, bare, "cloudburst", options.jobs),
            "import": partial(measured, bare, "cloudburst", 0),
            "rq enqueue_many": partial(measured, bare, "rq", options.rq_jobs),
        }
        runs = measure.interleave(ways, options.repeats)
        version = bare.version
    measure.report("submit_million", GOALS, runs, options, versions={"redis-server": version})


def measured(server: services.Redis, way: str, jobs: int) -> measure.Values:
    server.client.flushall()
    here = str(Path(enqueue.__file__).parent)
    argv = [sys.executable, "-c", CLIENT, here, way, server.url, str(jobs)]
    megabytes, seconds = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    if server.client.llen("rq:queue:default") != jobs:
        raise SystemExit(f"{way}: {server.client.llen('rq:queue:default')} jobs are in the queue")
    return {"MB": megabytes} | ({"jobs/s": jobs / seconds} if jobs else {})


if __name__ == "__main__":
    main()
