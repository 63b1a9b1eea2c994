"""The payload of the contract tests: a stock worker imports it, ours gets it as worker.zip.

Everything that happens leaves a line in the file ``trace`` of the job description; so both can be compared.
"""

import asyncio
import json
import os
import time
from pathlib import Path


def _trace(params, **what):
    with open(params["trace"], "a") as file:
        file.write(json.dumps({"name": params["name"], **what}) + "\n")


def note(params):
    _trace(params, event="run")
    return params.get("value")


def gate(params):
    """Hold the worker until the file is there."""
    _trace(params, event="run")
    while not os.path.exists(params["gate"]):
        time.sleep(0.01)
    return "through"


def fail(params):
    _trace(params, event="run")
    raise ValueError("wanted by " + params["name"])


def fail_once(params):
    _trace(params, event="run")
    first = Path(params["trace"] + ".once")
    if not first.exists():
        first.touch()
        raise ValueError("the first time")
    return "the second time"


def nap(params):
    _trace(params, event="run")
    if not os.path.exists(params["trace"] + ".awake"):
        time.sleep(params["s"])
    return "rested"


async def later(params):
    await asyncio.sleep(0)
    return "later"


def meta_of_mine(params):
    """What a function can know of its job's meta."""
    return len(json.loads(os.environ["CLOUDBURST_JOB_META"])["text"])


def seen(job):
    """What a callback can see of its job."""
    return {
        "id": job.id,
        "args": [a["name"] for a in job.args],
        "kwargs": job.kwargs,
        "func_name": job.func_name,
        "origin": job.origin,
        "description": job.description,
        "meta": job.meta,
        "timeout": job.timeout,
        "enqueued": job.enqueued_at.year > 2000 and job.created_at <= job.enqueued_at,
        "retries_left": job.retries_left,
        "status": str(getattr(job.get_status(refresh=False), "value", job.get_status(refresh=False))),
    }


def on_success(job, connection, result, *rest):
    _trace(job.args[0], event="success", job=seen(job), result=result, rest=list(rest))


def on_failure(job, connection, type, value, traceback):
    frames = []
    while traceback is not None and hasattr(traceback, "tb_frame"):
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    _trace(job.args[0], event="failure", type=type.__name__, value=str(value), job=seen(job), frames=frames)


def on_stopped(job, connection):
    _trace(job.args[0], event="stopped", job=seen(job))


def raise_in_callback(job, connection, *rest):
    _trace(job.args[0], event="raising")
    raise KeyError("from the callback")


def hang_in_callback(job, connection, *rest):
    _trace(job.args[0], event="hanging")
    time.sleep(30)


def nap_in_callback(job, connection, *rest):
    time.sleep(1.5)


def leave(params):
    """End the process without a word."""
    os._exit(3)


def environment(params):
    return sorted(os.environ)


def use_the_job(job, connection, result):
    eval(job.args[0]["use"], {"job": job})
