"""What a job has started ends with it: processes, whatever their session, and pools of processes.

Linux: this process is the reaper of its descendants, so none gets away from it: one that loses its parent
becomes a child of ours. Elsewhere the end of the executor's process group has to do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import FrozenSet

from .lifelines import adopt_orphans
from .pools import Pools, forget_forkserver
from .trees import KILL_S, PAUSE_S, any_child, children, descendants, reap

LAST_WORDS_S = 1.0
"""How long a resource tracker gets to remove what the job's processes have left."""


class Processes:
    """Those that a job has started. Those that modules have started while they were imported stay."""

    def __init__(self) -> None:
        self._stay: FrozenSet[int] = frozenset()
        self._pools = Pools()
        adopt_orphans()
        forget_forkserver(self._stay)  # of the process that this one is a fork of

    def before(self) -> None:
        """A job begins: the processes that are there now stay."""
        self._stay = frozenset(children(os.getpid())) if any_child() else frozenset()
        self._pools.before()

    def after(self) -> str:
        """End all others; why this executor should take no further job, "" if it may."""
        if not any_child() or self._stay.issuperset(children(os.getpid())):
            self._pools.forget()
            return ""
        self._pools.close(self._stay)
        trackers = self._pools.trackers() - self._stay
        gone = self._ended(self._stay | trackers)
        self._pools.drop_trackers(trackers)
        self._await_end(trackers)
        gone = self._ended(self._stay) and gone
        renew = self._pools.reset(self._stay)
        return renew if gone else "processes that a job has started survive SIGKILL"

    def _ended(self, spared: FrozenSet[int]) -> bool:
        """Kill all others and wait until they are gone; whether they are."""
        deadline = time.monotonic() + KILL_S
        while True:
            left = list(descendants(os.getpid(), spared))
            if not left:
                return True
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            reap(left)
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)

    def _await_end(self, pids: FrozenSet[int]) -> None:
        deadline = time.monotonic() + LAST_WORDS_S
        while not pids.isdisjoint(children(os.getpid())) and time.monotonic() < deadline:
            reap(pids)
            time.sleep(PAUSE_S)
