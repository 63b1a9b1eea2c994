"""A disk without room under a local stack: what is said; it can be stopped, and goes on afterwards."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from cloudburst.errors import StackError
from cloudburst.stack import room
from tests.stack.test_local import Stack
from tests.wait import wait_until


def fill(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


def test_a_full_disk_is_said_and_nothing_keeps_the_stack_from_being_stopped(
    small_disk: Callable[[int], Path],
) -> None:
    disk = small_disk(64 << 20)
    stack = Stack(disk / "home")
    where = stack.up().endpoints
    try:
        assert stack.status().notices == ()
        queue = redis.Redis.from_url(where.redis_url)
        filler = fill(disk)

        def is_refused() -> bool:
            try:
                queue.set("x", "y" * 10_000)
            except redis.RedisError as error:
                return "MISCONF" in str(error) or "Errors writing" in str(error)
            return False

        wait_until(is_refused, 30, "Redis to notice")
        status = stack.status()
        assert any("is full: 0 of" in notice and str(stack.paths.root) in notice for notice in status.notices)
        assert any("Redis cannot write to its disk" in notice for notice in status.notices)
        shown = stack.cli("status", "--local").communicate(timeout=60)[0]
        assert "make room" in shown.replace("\n", " ")
        with pytest.raises(StackError, match=r"/.*: No space left on device: make room on that disk"):
            stack.up(slots=2)
        filler.unlink()
        wait_until(lambda: not is_refused(), 30, "Redis to go on")
        fill(disk)
    finally:
        stack.down()
    assert stack.processes() == []


def test_a_disk_is_nearly_full_when_little_is_left(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(64 << 20)
    assert room.on_disk(disk) == ()
    (disk / "file").write_bytes(b"x" * (62 << 20))
    (notice,) = room.on_disk(disk)
    assert "is nearly full: 2 of 67 MB are free" in notice
    assert "does not answer" in room.on_disk(disk / "gone")[0]


def test_points_that_wait_are_said(tmp_path: Path) -> None:
    assert room.of_points(tmp_path) == ()
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "000000000000.lp").write_bytes(b"m v=1 1\n" * 100_000)
    assert room.of_points(tmp_path) == ()  # the database may be starting
    old = time.time() - 600
    os.utime(spool / "000000000000.lp", (old, old))
    (notice,) = room.of_points(tmp_path)
    assert notice.startswith("0.8 MB of points wait for the database, the oldest for 10 min")
