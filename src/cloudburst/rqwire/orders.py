"""What stock tools tell a worker to do (RQ 2.x: ``rq/command.py``, ``rq/suspension.py``)."""

from __future__ import annotations

import json
from typing import Literal, NamedTuple, cast

SUSPENDED = "rq:suspended"
"""While this key exists, workers start no jobs: ``rq suspend`` makes it, ``rq resume`` deletes it."""

Kind = Literal["stop-job", "kill-horse", "shutdown"]
KINDS = ("stop-job", "kill-horse", "shutdown")


class Order(NamedTuple):
    """One command that was sent to this worker."""

    kind: Kind
    job_id: str = ""
    """For ``stop-job``."""


def channel(worker: str) -> str:
    """Where commands for the worker of that name are published."""
    return f"rq:pubsub:{worker}"


def read(message: bytes) -> Order | None:
    """What was published; None for what no stock tool sends."""
    try:
        payload = json.loads(message)
    except (ValueError, RecursionError):
        return None
    kind = payload.get("command") if isinstance(payload, dict) else None
    return Order(cast(Kind, kind), str(payload.get("job_id") or "")) if kind in KINDS else None
