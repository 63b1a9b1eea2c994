"""File descriptors that jobs do not hit upon: ``os.closerange(3, 64)`` of a job closes none of ours."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
from typing import Any

HIGHEST = 4096
"""Above it nothing is kept: each fork copies the table up to the highest one in use."""

PLACES = 64


def file_of(fd: int) -> Any:
    """Which file it is; None if it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Kept:
    """A descriptor of the same file, where the limit lets nobody open one: above it, if we may."""

    def __init__(self, fd: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        place = soft if 0 < soft <= HIGHEST else HIGHEST
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, place + PLACES), hard))
        try:
            self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, place)
        except OSError:  # we may not
            self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(place - PLACES, 3))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        found = os.fstat(self.fd)
        self._device, self._inode = found.st_dev, found.st_ino

    def file(self) -> Any:
        """What ``os.fstat`` says of it; None if it is closed, or another file's by now."""
        try:
            found = os.fstat(self.fd)
        except OSError:
            return None
        return found if found.st_ino == self._inode and found.st_dev == self._device else None

    def intact(self) -> bool:
        """Whether it is open, and not another file's by now."""
        return self.file() is not None
