"""Jobs of a stock client whose hashes no sane client writes; each must end by its own name, and alone."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping

import redis
from rq import Queue
from rq.serializers import JSONSerializer

Spoil = Callable[[redis.Redis, str], object]
"""Makes the job of that id a bad one, before anybody can claim it."""


def _fields(**fields: str | bytes | int | float) -> Spoil:
    return lambda client, job: client.hset(f"rq:job:{job}", mapping=dict(fields))


def _instead(make: Callable[[redis.Redis, str], object], key: str = "rq:job:{}") -> Spoil:
    """A key of the job in another type."""

    def spoil(client: redis.Redis, job: str) -> None:
        client.delete(key.format(job))
        make(client, key.format(job))

    return spoil


def _without(*names: str) -> Spoil:
    return lambda client, job: client.hdel(f"rq:job:{job}", *names)


NUMBERS = (
    "abc",
    "0.5",
    "180.5",
    "-1",
    "1e3",
    "1e400",
    "nan",
    "inf",
    "-inf",
    str(10**16),
    str(10**400),
    "",
    " 7",
    "0x10",
)
"""What may stand where a number is meant."""
NUMERIC = (
    "timeout",
    "result_ttl",
    "failure_ttl",
    "ttl",
    "retries_left",
    "cb_attempt",
    "cb_index",
    "cb_past",
    "cb_expires",
    "success_callback_timeout",
    "failure_callback_timeout",
    "stopped_callback_timeout",
)
FAILING = json.dumps(["hostile.raises_bare", None, [{"n": 0}], {}]).encode()
NOT_UTF8 = b"\xff\xfe\x00"

SPOILED: Mapping[str, Spoil] = {
    "nothing": lambda client, job: None,
    **{f"{name}={value[:12]!r}": _fields(**{name: value}) for name in NUMERIC for value in NUMBERS},
    # Those of them that only matter when the job fails.
    **{
        f"fails, {name}={value[:12]!r}": _fields(**{name: value, "data": FAILING})
        for name in ("retries_left", "failure_ttl", "result_ttl")
        for value in NUMBERS
    },
    **{
        f"callback, {name}={value[:12]!r}": _fields(
            **{f"{name}_callback_name": "hostile.misbehave", f"{name}_callback_timeout": value}
        )
        for name in ("success", "failure", "stopped")
        for value in NUMBERS
    },
    **{
        f"intervals={text!r}": _fields(retries_left=1, retry_intervals=text, data=FAILING)
        for text in (
            "x",
            "{}",
            '[["a"]]',
            '{"0": 1}',
            "[null]",
            "[1e400]",
            "[-5]",
            '["x"]',
            "[" * 5000,
            "[0.5]",
        )
    },
    **{
        f"repeat={text!r}": _fields(repeats_left=1, repeat_intervals=text)
        for text in ("x", "{}", '[["a"]]', "[null]", "[-5]", '["x"]')
    },
    "repeats_left=abc": _fields(repeats_left="abc"),
    "repeats_left=0.5": _fields(repeats_left="0.5"),
    "no data": _without("data"),
    "no status": _without("status"),
    "nothing but a status": lambda c, j: (c.delete(f"rq:job:{j}"), c.hset(f"rq:job:{j}", "status", "queued")),
    "empty data": _fields(data=b""),
    "data cut off": _fields(data=zlib.compress(b"x" * 1000)[:20]),
    "data not UTF-8": _fields(data=NOT_UTF8),
    "data of depth": _fields(data=b"[" * 100_000),
    "data of another form": _fields(data=b'{"a": 1}'),
    "data with a huge number": _fields(data=b'["hostile.misbehave", null, [' + b"9" * 6000 + b"], {}]"),
    "data that unfolds to 300 MB": _fields(data=zlib.compress(b" " * 300_000_000)),
    "a pickle that is none": _fields(data=b"\x80\x04garbage"),
    "a function of the machine": _fields(data=b'["os.system", null, ["true"], {}]'),
    "texts not UTF-8": _fields(
        origin=NOT_UTF8, description=NOT_UTF8, created_at=NOT_UTF8, enqueued_at=NOT_UTF8
    ),
    "names not UTF-8": _fields(worker_name=NOT_UTF8, success_callback_name=NOT_UTF8),
    "meta not readable": _fields(meta=NOT_UTF8),
    "times that are none": _fields(created_at="yesterday", enqueued_at="never", started_at="x", ended_at="y"),
    "another's ensemble": _fields(cb_ens="nobody-000000", cb_index="0"),
    "an ensemble without index": _fields(cb_ens="nobody-000000"),
    "an ensemble not UTF-8": _fields(cb_ens=NOT_UTF8, cb_index="1"),
    "an ensemble without name": _fields(cb_ens="", cb_index="0"),
    "owned by somebody": _fields(cb_owner="me.1", cb_final="me.1", cb_entry="1-1"),
    "a record that is none": _fields(cb_final="x", cb_entry="no entry"),
    "hash is a list": _instead(lambda c, k: c.rpush(k, "x")),
    "hash is a text": _instead(lambda c, k: c.set(k, "x")),
    "hash is a stream": _instead(lambda c, k: c.xadd(k, {"a": "b"})),
    "results are a text": _instead(lambda c, k: c.set(k, "x"), "rq:results:{}"),
    "results are a list": _instead(lambda c, k: c.rpush(k, "x"), "rq:results:{}"),
    "results with the last of all ids": _instead(
        lambda c, k: c.xadd(k, {"a": "b"}, id=f"{2**64 - 1}-{2**64 - 1}"), "rq:results:{}"
    ),
    "dependents are a text": _instead(lambda c, k: c.set(k, "x"), "rq:job:{}:dependents"),
    "dependents of no form": _instead(lambda c, k: c.sadd(k, NOT_UTF8, "", "nobody"), "rq:job:{}:dependents"),
    "dependencies of no form": _fields(
        dependency_ids="\0 x", dependency_id=NOT_UTF8, allow_dependency_failures="x"
    ),
}


def enqueue(client: redis.Redis, name: str, job_id: str) -> None:
    """Enqueue a job of ``worker.zip`` whose hash is spoiled in the way of that name."""
    queue = Queue(connection=client, serializer=JSONSerializer)
    job = queue.create_job("hostile.nothing", args=({"n": 0},), job_id=job_id, timeout=60)
    job.set_status("queued")
    job.save()
    SPOILED[name](client, job_id)
    client.sadd("rq:queues", "rq:queue:default")
    client.rpush("rq:queue:default", job_id)


def unfinished(client: redis.Redis, job_ids: set[str]) -> dict[str, str]:
    """Those of them that have no end yet, or are left in a place where only such jobs are."""
    found = {}
    waiting = {raw.decode("utf-8", "replace") for raw in client.lrange("rq:queue:default", 0, -1)}
    for place in ("cb:lease:default", "rq:scheduled:default", "rq:deferred:default"):
        waiting |= {raw.decode("utf-8", "replace") for raw in client.zrange(place, 0, -1)}
    for job_id in job_ids:
        kind = client.type(f"rq:job:{job_id}")
        status = client.hget(f"rq:job:{job_id}", "status") if kind == b"hash" else None
        if job_id in waiting:
            found[job_id] = f"still waits or runs ({status!r})"
        elif kind == b"hash" and status not in {b"finished", b"failed", b"canceled", b"stopped"}:
            found[job_id] = f"status {status!r}"
    return found
