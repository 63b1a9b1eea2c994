"""The executor's side of its two sockets to the worker."""

from __future__ import annotations

import os
import select

from .descriptors import Kept
from .frames import MESSAGE_LIMIT, pack

FLUSH_BYTES = 1 << 16


class Channel:
    """Takes jobs, sends frames. If a job has closed the sockets, the process ends in a way that says so."""

    def __init__(self, control: int, queue: int) -> None:
        self._control = Kept(control)
        self._queue = Kept(queue)
        os.close(control)
        os.close(queue)
        self._unsent = bytearray()

    def close(self) -> None:
        """In a process that is not the executor."""
        for kept in (self._control, self._queue):
            if kept.intact():
                os.close(kept.fd)

    def payload(self) -> bytes:
        """Some of what the worker says before any job; b"" when it says no more."""
        return os.read(self._control.fd, 1 << 16)

    def job(self) -> bytes:
        """The next message of the queue; b"" when there comes none."""
        _check(self._queue)
        try:
            return os.read(self._queue.fd, MESSAGE_LIMIT)
        except OSError:
            os._exit(os.EX_PROTOCOL)

    def await_end(self) -> None:
        """Until the worker has closed the queue; what lies in it stays there."""
        _check(self._queue)
        closed = select.poll()
        closed.register(self._queue.fd, 0)
        closed.poll()

    def send(self, kind: int, body: bytes) -> None:
        """Small frames leave together, at the end of the job."""
        self._unsent += pack(kind, body)
        if len(self._unsent) > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        _check(self._control)
        unsent = memoryview(bytes(self._unsent))
        self._unsent.clear()
        while unsent:
            try:
                unsent = unsent[os.write(self._control.fd, unsent) :]
            except OSError:
                os._exit(os.EX_PROTOCOL)


def _check(kept: Kept) -> None:
    if not kept.intact():
        os._exit(os.EX_PROTOCOL)
