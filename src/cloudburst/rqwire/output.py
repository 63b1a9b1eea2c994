"""What a running job has printed: published by its worker about once a second, while it changes."""

from __future__ import annotations

from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis, found

KEPT_S = 600
"""How long the last publication stays."""


def publish(client: Redis, job_id: str, tail: bytes) -> None:
    """Let clients read the end of a running job's output."""
    client.set(_key(job_id), encoding.output(tail), ex=KEPT_S)


def is_known(client: Redis, job_id: str) -> bool:
    """Whether there is such a job; finished ones are forgotten after a while."""
    return bool(client.exists(encoding.named(f"rq:job:{job_id}")))


def read(client: Redis, job_id: str) -> str:
    """The end of the output of a job that runs, or has failed; "" when nothing is known of it."""
    with client.pipeline(transaction=False) as pipe:
        pipe.hget(encoding.named(f"rq:job:{job_id}"), "cb_output")
        pipe.get(_key(job_id))
        kept, running = found(pipe, bytes)
    return encoding.output_text(kept or running)


def _key(job_id: str) -> bytes:
    return encoding.named(f"cb:output:{job_id}")
