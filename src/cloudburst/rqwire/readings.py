"""A queue and its Redis in numbers: a few dozen commands, however many jobs there are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis, found

STATS = "cb:stats"
"""Hash that the scripts count in."""

_HEAD = 10
"""So many ids at the head of the queue are looked at for its oldest job: jobs of some may be gone."""


@dataclass(frozen=True)
class QueueReading:
    """One queue."""

    waiting: int
    oldest_s: float
    """How long ago the job was created that is to start next; 0 when none waits."""
    running: int
    leases_lost: int
    """Jobs, of all queues and since the beginning, whose worker was not heard of in time."""
    jobs_set_aside: int
    """Jobs, of all queues and since the beginning, given up because they lost their executor each time."""


@dataclass(frozen=True)
class ServerReading:
    """Redis itself."""

    memory_used_bytes: int
    memory_limit_bytes: int
    """What it may use: its ``maxmemory``, else all memory of its machine. 0: not known."""
    aof_bytes: int
    """Size of the append-only file; 0 without one."""
    aof_ok: bool
    """Whether the last writes to disk have succeeded; without that, nothing is accepted any more."""

    @property
    def memory_part(self) -> float:
        """How full it is, from 0 to 1."""
        return self.memory_used_bytes / self.memory_limit_bytes if self.memory_limit_bytes else 0.0


def read(client: Redis, queue: str) -> tuple[QueueReading, ServerReading]:
    """How it is now. Raises what redis-py raises."""
    with client.pipeline(transaction=False) as pipe:
        pipe.llen(f"rq:queue:{queue}")
        pipe.lrange(f"rq:queue:{queue}", 0, _HEAD - 1)
        pipe.zcard(f"cb:lease:{queue}")
        pipe.hgetall(STATS)
        pipe.info("memory")
        pipe.info("persistence")
        waiting, head, running, stats, memory, persistence = pipe.execute()
    reading = QueueReading(
        waiting=waiting,
        oldest_s=_age_s(client, head),
        running=running,
        leases_lost=encoding.whole(stats.get(b"leases_lost")),
        jobs_set_aside=encoding.whole(stats.get(b"jobs_set_aside")),
    )
    return reading, _server(memory, persistence)


def _age_s(client: Redis, head: list[bytes]) -> float:
    with client.pipeline(transaction=False) as pipe:
        for job_id in head:
            pipe.hmget(b"rq:job:" + job_id, ["status", "created_at"])
        jobs = [job for job in found(pipe, list) if job] if head else []
    for status, created in jobs:
        if status == b"queued" and (at := encoding.timestamp(created)):
            return max(time.time() - at, 0.0)
    return 0.0


def _server(memory: Mapping[str, Any], persistence: Mapping[str, Any]) -> ServerReading:
    writes = ("aof_last_write_status", "aof_last_bgrewrite_status")
    return ServerReading(
        memory_used_bytes=int(memory["used_memory"]),
        memory_limit_bytes=int(memory.get("maxmemory") or memory.get("total_system_memory") or 0),
        aof_bytes=int(persistence.get("aof_current_size", 0)),
        aof_ok=all(persistence.get(name, "ok") == "ok" for name in writes),
    )
