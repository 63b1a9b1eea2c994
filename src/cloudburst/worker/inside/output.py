"""What a job prints.

stdout and stderr are a file that the worker opened for appending. After each job it is emptied; its last part
goes with the D frame of a job that failed.
"""

from __future__ import annotations

import contextlib
import os
import sys

from .frames import OUTPUT_LIMIT


def flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


class Output:
    """The file behind stdout and stderr."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def tail(self) -> bytes:
        """The last part of it."""
        flush_streams()
        size = os.fstat(self.fd).st_size
        return os.pread(self.fd, OUTPUT_LIMIT, max(size - OUTPUT_LIMIT, 0))

    def clear(self) -> None:
        flush_streams()
        if os.fstat(self.fd).st_size:
            os.ftruncate(self.fd, 0)
