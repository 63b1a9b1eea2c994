"""What a job leaves behind in an executor that runs further jobs: ended, put back, or told to the worker.

One rule: what there was when the function was called is there when the next one is called. So what a module
sets while it is imported stays, and what a function sets goes. What modules and libraries keep in their own
variables cannot be put back: docs/payloads.md says so.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import gc
import os
import socket
import stat
import sys
import threading
import time
from typing import AbstractSet, Any, List

from .payload import Payload
from .processes import Processes
from .state import ENVIRONMENT, STATE, disarm
from .written import Written

LEFT = 64
"""An executor in which jobs have left more open files, or more threads, takes no further job."""

THREAD_S = 0.2
"""How long a thread that has almost ended gets."""

PAUSE_S = 0.005


class Leftovers:
    """Called before each job and after it, and again when a module of the payload was imported.

    Of a job in a fork only ``processes`` matter here, if the fork could not end them itself.
    """

    def __init__(self) -> None:
        self.processes = Processes()
        self._forked = False
        self._was: List[Any] = []
        self._threads: AbstractSet[int] = frozenset()
        self._files = Open()
        self.written = Written()

    def alone(self) -> None:
        """This process is a fork, for one job: what it leaves in itself ends with it."""
        self._forked = True
        atexit._clear()
        self.processes = Processes()

    def before(self) -> None:
        """Remember what there is: as after the last job, but for what is set for each."""
        self.processes.before()
        if not self._forked:
            self._was = self._was or [state.read() for state in STATE]
            self._was[STATE.index(ENVIRONMENT)] = ENVIRONMENT.read()
            self._threads = frozenset(sys._current_frames())

    def imported(self) -> None:
        """Remember what there is now: what a module has set and started, while it was imported, stays."""
        self._was = [state.read() for state in STATE]
        self.before()
        self._files.stay()
        self.written.look()

    def after(self, payload: Payload) -> str:
        """End and put back what the job has left; why no further job should run here, "" if it may."""
        disarm()
        try:
            self.written.flush()
            if self._forked:
                return self._end()
            renew = self._put_back()
            renew = self.processes.after() or renew
            return self._threads_left(payload) or self._files.left() or renew
        except Exception as error:  # noqa: BLE001 (of libraries, whose insides differ between versions)
            return "what a job has left cannot be ended: %s: %s" % (type(error).__name__, error)

    def _end(self) -> str:
        """What Python does at its end, for what this fork has begun."""
        renew = self.processes.after()  # multiprocessing's function would wait for them
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        renew = self.processes.after() or renew
        self.written.look()
        self.written.flush()
        return renew

    def _put_back(self) -> str:
        renew = ""
        if [state.read() for state in STATE] == self._was:
            return renew
        for state, was in zip(STATE, self._was):
            if state.read() != was:
                try:
                    state.write(was)
                except Exception as error:  # noqa: BLE001 (an executor that is not as it was takes no job)
                    renew = "a job has changed its %s, and it cannot be put back (%s)" % (state.name, error)
        return renew

    def _threads_left(self, payload: Payload) -> str:
        if not _thread._count():
            return ""
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer) and thread.ident not in self._threads:
                thread.cancel()
        deadline = time.monotonic() + THREAD_S
        while self._busy(payload):
            if time.monotonic() > deadline:
                return "a thread that a job has started still runs the payload's code"
            time.sleep(PAUSE_S)
        if _thread._count() > len(self._threads) + LEFT:
            return "jobs have left %d threads" % _thread._count()
        return ""

    def _busy(self, payload: Payload) -> bool:
        """Whether a thread that the job has started still runs code of the payload's."""
        for ident, frame in sys._current_frames().items():
            place: Any = frame
            while place is not None and ident not in self._threads:
                if payload.contains(place.f_code.co_filename):
                    return True
                place = place.f_back
        return False


class Open:
    """File descriptors."""

    def __init__(self) -> None:
        self._stay = 0
        self._most = 0
        self._next = -1

    def stay(self) -> None:
        """Those that modules have opened are not left by jobs."""
        now = _count()
        self._stay += max(now - self._most, 0)
        self._most = max(now, self._most)
        self._next = _next()

    def left(self) -> str:
        """Why no further job should run here, "" if it may."""
        if _next() == self._next:
            return ""
        self._next = -1
        if _count() <= self._most:
            self._next = _next()
            return ""
        gc.collect()  # what waits for it may be open files
        self._most = max(_count(), self._most)
        if any(map(_listens, range(self._most * 2))):
            return "a job has left a socket that listens"
        self._next = _next()
        left = self._most - self._stay
        return "jobs have left %d files open" % left if left > LEFT else ""


def _next() -> int:
    """The number that the next file gets, the lowest free one: another where a job has left one open.

    To count all of them takes ten times as long.
    """
    with contextlib.suppress(OSError):
        fd = os.dup(2)
        os.close(fd)
        return fd
    return -2


def _count() -> int:
    for directory in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(directory))
    return 0


def _listens(fd: int) -> bool:
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            with socket.socket(fileno=os.dup(fd)) as one:
                return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return False
