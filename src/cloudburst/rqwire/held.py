"""The jobs that workers hold leases of right now."""

from __future__ import annotations

from typing import NamedTuple, cast

from cloudburst import names
from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis, found


class Held(NamedTuple):
    """A job that runs, or is about to."""

    job_id: str
    worker: str
    """Name of the worker."""
    since: float
    """Unix time in seconds of the claim."""


def held(client: Redis, queue: str = names.QUEUE) -> list[Held]:
    """All of the queue: as many as its workers have slots, and few more. Raises what redis-py raises."""
    ids = cast("list[bytes]", client.zrange(f"cb:lease:{queue}", 0, -1))
    with client.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hmget(b"rq:job:" + job_id, "worker_name", "started_at")
        rows = found(pipe, list)
    return [
        Held(encoding.name(job_id), encoding.text(row[0]), encoding.timestamp(row[1]))
        for job_id, row in zip(ids, rows, strict=True)
        if row and row[0]
    ]
