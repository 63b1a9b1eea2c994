"""What a running job has printed: published by its worker about once a second, while it changes."""

from __future__ import annotations

from typing import cast

from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis

KEPT_S = 600
"""How long the last publication stays."""


def publish(client: Redis, job_id: str, tail: bytes) -> None:
    """Let clients read the end of a running job's output."""
    client.set(f"cb:output:{job_id}", encoding.output(tail), ex=KEPT_S)


def is_known(client: Redis, job_id: str) -> bool:
    """Whether there is such a job; finished ones are forgotten after a while."""
    return bool(client.exists(f"rq:job:{job_id}"))


def read(client: Redis, job_id: str) -> str:
    """The end of the output of a job that runs, or has failed; "" when nothing is known of it."""
    kept = cast("bytes | None", client.hget(f"rq:job:{job_id}", "cb_output"))
    return encoding.output_text(kept or cast("bytes | None", client.get(f"cb:output:{job_id}")))
