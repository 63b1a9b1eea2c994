"""Processes that run one job each, with isolation = "fork"."""

from __future__ import annotations

import os
import select
from typing import Optional


class Forks:
    """Waits for forks. One that has said that its job has ended may go while the next one comes.

    Taking down a process with wntr imported takes as long as forking it, 5 ms: both go on at once.
    """

    def __init__(self) -> None:
        self._said, self._say = os.pipe()
        self._leaving = 0

    def ended(self) -> None:
        """In the fork: all that is left to do is to exit."""
        os.write(self._say, b".")

    def wait(self, child: int) -> Optional[int]:
        """Until the fork says so; its wait status if it ends without."""
        self._last()  # never two: their memory is still in use
        self._leaving = child
        try:
            handle = os.pidfd_open(child)
        except (AttributeError, OSError):  # Python 3.8, or a kernel that has or allows no such thing
            status = self._last()
        else:
            # Not by the end of the pipe: processes that user code has left behind may hold it open.
            poll = select.poll()
            poll.register(self._said, select.POLLIN)
            poll.register(handle, select.POLLIN)
            poll.poll()
            os.close(handle)
            status = 0
        if select.select([self._said], [], [], 0)[0]:
            os.read(self._said, 1)
            return None
        return self._last() or status

    def _last(self) -> int:
        """The wait status of the one that is leaving, once it has left."""
        if not self._leaving:
            return 0
        child, self._leaving = self._leaving, 0
        return os.waitpid(child, 0)[1]
