"""Where a stack on this machine runs out of room, in sentences for whoever looks at it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import redis

from cloudburst.model import Endpoints
from cloudburst.stack import probes

LEAST_BYTES = 1 << 30
LEAST_SHARE = 0.05
"""A disk is nearly full when less than the smaller of these is free."""

POINTS_WAIT_S = 30.0
"""A database that is started again is away for less."""


def on_disk(directory: Path) -> tuple[str, ...]:
    """Whether the disk of the stack's directory is nearly full."""
    try:
        disk = shutil.disk_usage(directory)
    except OSError as error:
        return (f"the disk of {directory} does not answer: {error.strerror}",)
    if disk.free >= min(LEAST_BYTES, disk.total * LEAST_SHARE):
        return ()
    return (
        f"the disk of {directory} is {'full' if disk.free == 0 else 'nearly full'}: "
        f"{disk.free / 1e6:,.0f} of {disk.total / 1e6:,.0f} MB are free; make room",
    )


def in_redis(endpoints: Endpoints | None) -> tuple[str, ...]:
    """Whether Redis takes nothing new."""
    if endpoints is None:
        return ()
    with probes.client(endpoints.redis_url) as client:
        try:
            disk, memory = client.info("persistence"), client.info("memory")
        except redis.RedisError:
            return ()  # said elsewhere: it does not answer
    found = []
    if disk.get("aof_last_write_status") == "err":
        found.append("Redis cannot write to its disk, and refuses new jobs until it can; none is lost")
    if 0 < int(memory.get("maxmemory", 0)) <= int(memory["used_memory"]):
        found.append(f"Redis uses all of its {memory['maxmemory'] / 1e6:,.0f} MB, and refuses new jobs")
    return tuple(found)


def of_points(worker: Path) -> tuple[str, ...]:
    """Whether points wait in the worker's spool because the database does not take them."""
    try:
        waiting = [path.stat() for path in (worker / "spool").glob("*.lp")]
    except OSError:
        return ()  # delivered meanwhile
    if not waiting:
        return ()
    since_s = time.time() - min(status.st_mtime for status in waiting)
    if since_s < POINTS_WAIT_S:
        return ()
    size = sum(status.st_size for status in waiting)
    return (
        f"{size / 1e6:,.1f} MB of points wait for the database, the oldest for {since_s / 60:,.0f} min: "
        f"the worker's log says why; they are safe in {worker / 'spool'}",
    )
