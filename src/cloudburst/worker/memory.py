"""How much memory a job may use when its payload does not say."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import psutil

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
