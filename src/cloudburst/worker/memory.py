"""How much memory a job uses, and how much it may use when its payload does not say."""

from __future__ import annotations

import contextlib
import resource
from functools import cache
from pathlib import Path

import psutil

_PAGE_BYTES = resource.getpagesize()

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_VMSTAT = Path("/proc/vmstat")
_MOST_PROCESSES = 4096
_LEFT_TO_OTHERS = 0.1
"""Part of the node's memory that jobs never get."""


@cache
def total_mb() -> int:
    """Memory of this node, or of this container if it has less, in MiB."""
    total = psutil.virtual_memory().total
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return int(total) >> 20


def share_mb(slots: int) -> int:
    """One slot's share, in MiB."""
    return int(total_mb() * (1 - _LEFT_TO_OTHERS) / slots)


def used_bytes(pid: int) -> int:
    """Resident memory of a process and all its descendants now; 0 when it is gone.

    Read from /proc where there is one: looking for children among all processes takes milliseconds. Of very
    many descendants, only the first are looked at: a job may have started any number.
    """
    try:
        total, found = _used_by_one(pid)
    except (OSError, IndexError):
        return _used_bytes_elsewhere(pid)
    for _ in range(_MOST_PROCESSES):
        if not found:
            break
        with contextlib.suppress(OSError, IndexError):
            used, children = _used_by_one(found.pop())
            total += used
            found += children
    return total


def _used_by_one(pid: int) -> tuple[int, list[int]]:
    """What one process uses, and its children."""
    directory = Path(f"/proc/{pid}")
    used = int((directory / "statm").read_text().split()[1]) * _PAGE_BYTES
    children = [(task / "children").read_text() for task in (directory / "task").iterdir()]
    return used, [int(child) for several in children for child in several.split()]


def kernel_kills() -> int:
    """How many processes the kernel has ended for want of memory so far; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in _VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _used_bytes_elsewhere(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        total = process.memory_info().rss
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += child.memory_info().rss
    return total
