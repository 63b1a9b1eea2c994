"""Free space on the file store's disk, some of which is never given away."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from cloudburst.errors import FileStoreError

RESERVE_LIMIT_BYTES = 64 * 1024 * 1024
"""A full disk harms the machine's other services, so a little is kept free: 5 %, at most this."""


def free_bytes(directory: Path) -> int:
    """How much may still be stored below ``directory``."""
    status = os.statvfs(directory)
    reserve = min(status.f_blocks * status.f_frsize // 20, RESERVE_LIMIT_BYTES)
    return max(status.f_bavail * status.f_frsize - reserve, 0)


def check(directory: Path, wanted_bytes: int) -> None:
    """Raise FileStoreError with status 507 unless ``wanted_bytes`` can be stored below ``directory``."""
    free = free_bytes(directory)
    if wanted_bytes > free:
        raise disk_full(f"{wanted_bytes:,} bytes more are needed, {free:,} are free")


def disk_full(detail: str) -> FileStoreError:
    """The error for a disk that is full, with status 507."""
    return FileStoreError(
        f"the file store's disk is full: {detail}; delete files that are no longer needed, "
        "or give the file store a larger disk",
        status=507,
    )


def is_full(error: OSError) -> bool:
    """Whether the system refused to write because the disk, or the quota on it, is used up."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
