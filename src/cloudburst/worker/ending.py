"""The end of executors, and of all that they have started.

An executor is the reaper of what descends from it; once it is gone, that is this process (Linux). So what has
lost its parent is found among our children, and told from our own by these being started here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloudburst.worker import inside
from cloudburst.worker.inside import trees

log = logging.getLogger(__name__)

_MARK = "CLOUDBURST_EXECUTOR"

_starting = threading.Lock()
_started: dict[int, subprocess.Popen[bytes]] = {}
"""Children in sessions of their own. They are this process' alone, and there is one of it."""


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """A child in a session of its own; ``options`` as of ``subprocess.Popen``."""
    with _starting:
        for process in [one for one in _started.values() if one.returncode is not None]:
            del _started[process.pid]
        child = subprocess.Popen(argv, start_new_session=True, **options)
        _started[child.pid] = child
    return child


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill an executor and all that it has started."""
    if trees.LISTED:
        if process.returncode is None and not trees.end([process.pid]):
            log.error("process %d has started others faster than they could be stopped", process.pid)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def end_orphans() -> None:
    """Kill what executors that have died have left, and ask for the dead. To be called now and then."""
    with _starting:
        ours = {pid for pid, process in _started.items() if process.returncode is None}
        for pid in set(trees.children(os.getpid())) - ours:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                # Others than executors stay in our session, or leave it for the one of a tool of ours.
                session = os.getsid(pid)
                if session != os.getsid(0) and not os.waitpid(pid, os.WNOHANG)[0] and session not in ours:
                    trees.end([pid])


class Guard:
    """A process beside this one, which ends executors and what they have started when this one is killed."""

    def __init__(self, state_dir: Path) -> None:
        """End what the worker that used ``state_dir`` before has left; no other may use it now."""
        status = state_dir.stat()
        self.variables = {_MARK: f"{status.st_dev:x}-{status.st_ino:x}"}
        """Of executors, by which they and what they start can be known."""
        self._mark = f"{_MARK}={self.variables[_MARK]}".encode()
        left = trees.marked(self._mark) - {os.getpid()}
        if left:
            log.warning("ending %d processes that jobs of a worker have left that died here", len(left))
            trees.end(left)
        self._lifeline, self._held = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None
        self._executors: list[subprocess.Popen[bytes]] = []
        self._begin()

    def _begin(self) -> None:
        argv = [sys.executable, "-S", "-E", inside.START]
        self._process = start(argv, stdin=subprocess.PIPE, pass_fds=(self._held,), cwd="/", env={})
        self._say(self._mark)
        for executor in self._executors:
            self._say(str(executor.pid).encode())

    def _say(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            os.write(self._process.stdin.fileno(), line + b"\n")

    def lifeline(self) -> int:
        """For one executor: one end of a pipe that breaks when this process and the guard are gone.

        It is a file descriptor, the caller's to close.
        """
        if trees.LISTED:  # opened again, because each executor asks to be told of it by itself
            return os.open(f"/proc/self/fd/{self._lifeline}", os.O_RDONLY)
        return os.dup(self._lifeline)

    def watch(self, executor: subprocess.Popen[bytes]) -> None:
        """Have it ended when this process is killed."""
        self._executors = [one for one in self._executors if one.returncode is None] + [executor]
        try:
            self._say(str(executor.pid).encode())
        except OSError:
            log.warning("the guard of this worker has died: starting another")
            self._begin()

    def close(self) -> None:
        """All executors have ended."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
        os.close(self._lifeline)
        os.close(self._held)
