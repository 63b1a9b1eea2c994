#!/usr/bin/env python3
"""Run jobs with nothing but rq, redis and requests: any RQ client works with a CloudBurst stack.

REDIS_PASSWORD=... FILE_HOST_TOKEN=... client/plain_rq.py worker.zip worker.work '{"seed": 1}' '{"seed": 2}'
"""

import json
import os
import sys
import time

import requests
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer  # leave it out, and rq pickles: that works on a local stack only

archive, function, *descriptions = sys.argv[1:]

# 1. The payload: a zip with worker.py and Pipfile goes into the file store as worker.zip.
files = f"http://{os.environ.get('FILE_HOST', '127.0.0.1')}:{os.environ.get('FILE_HOST_PORT', '25478')}"
with open(archive, "rb") as file:
    answer = requests.post(
        f"{files}/upload",
        params={"token": os.environ.get("FILE_HOST_TOKEN", "")},
        files={"file": ("worker.zip", file)},
        timeout=60,
    )
answer.raise_for_status()

# 2. The jobs: each calls the payload's function with one description.
host, port = os.environ.get("REDIS_HOST", "127.0.0.1"), int(os.environ.get("REDIS_PORT", "6379"))
redis = Redis(host, port, password=os.environ.get("REDIS_PASSWORD"))
queue = Queue(connection=redis, serializer=JSONSerializer)
jobs = [queue.enqueue(function, json.loads(description)) for description in descriptions]

# 3. The results, as they come.
for job in jobs:
    while job.get_status(refresh=True) not in {"finished", "failed", "canceled"}:
        time.sleep(0.1)
    print(job.get_status().value, job.return_value() if job.is_finished else job.latest_result().exc_string)
