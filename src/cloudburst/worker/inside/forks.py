"""Processes that run one job each, with isolation = "fork"."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
from typing import Any, Optional

from .descriptors import Kept
from .output import answer_signals


class Gone(Exception):
    """The process of a job has exited before its function has returned."""

    def __init__(self, status: int) -> None:
        if status == os.EX_PROTOCOL:
            text = "the job closed or replaced file descriptors that it had not opened"
        else:
            text = "the job's process exited with status %d before its function returned" % status
        super().__init__(text)


class Forks:
    """Waits for forks. One that has said that its job has ended may go while the next one comes.

    Taking down a process with wntr imported takes as long as forking it, 5 ms: both go on at once.
    """

    def __init__(self) -> None:
        said, say = os.pipe()
        self._said, self._say = Kept(said), Kept(say)
        os.close(said)
        os.close(say)
        self._leaving = 0

    def ended(self) -> None:
        """In the fork: all that is left to do is to exit."""
        if self._say.intact():
            os.write(self._say.fd, b".")

    def wait(self, child: int) -> Optional[int]:
        """Until the fork says so; its wait status if it ends without.

        Meanwhile whoever asks where we are is answered by the fork.
        """

        def ask(_number: int, _frame: Any) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGUSR1)

        faulthandler.unregister(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, ask)
        try:
            return self._wait(child)
        finally:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            answer_signals()

    def _wait(self, child: int) -> Optional[int]:
        self._last()  # never two: their memory is still in use
        self._leaving = child
        try:
            handle = os.pidfd_open(child)
        except (AttributeError, OSError):  # Python 3.8, or a kernel that has or allows no such thing
            status = self._last()
        else:
            # Not by the end of the pipe: processes that user code has left behind may hold it open.
            poll = select.poll()
            poll.register(self._said.fd, select.POLLIN)
            poll.register(handle, select.POLLIN)
            poll.poll()
            os.close(handle)
            status = 0
        said = select.poll()
        said.register(self._said.fd, select.POLLIN)
        if said.poll(0):
            os.read(self._said.fd, 1)
            return None
        return self._last() or status

    def _last(self) -> int:
        """The wait status of the one that is leaving, once it has left."""
        if not self._leaving:
            return 0
        child, self._leaving = self._leaving, 0
        return os.waitpid(child, 0)[1]
