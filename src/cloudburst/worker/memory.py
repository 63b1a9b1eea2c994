"""How much memory a job uses, and how much it may use when its payload does not say."""

from __future__ import annotations

import contextlib
import resource
from functools import cache
from pathlib import Path

import psutil

_PAGE_BYTES = resource.getpagesize()

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
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

    Read from /proc where there is one: looking for children among all processes takes milliseconds.
    """
    directory = Path(f"/proc/{pid}")
    try:
        total = int((directory / "statm").read_text().split()[1]) * _PAGE_BYTES
        lists = [(task / "children").read_text() for task in (directory / "task").iterdir()]
    except (OSError, IndexError):
        return _used_bytes_elsewhere(pid)
    return total + sum(used_bytes(int(child)) for children in lists for child in children.split())


def _used_bytes_elsewhere(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        total = process.memory_info().rss
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += child.memory_info().rss
    return total
