"""Processes and what they have started, as Linux tells it; elsewhere nobody has children here."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Collection, FrozenSet, Iterator, Set

KILL_S = 5.0
"""How long the kernel gets to take killed processes away."""

PAUSE_S = 0.001

LISTED = os.path.exists("/proc/self/task/%d/children" % os.getpid())
"""Whether the kernel tells which children a process has."""


def any_child() -> bool:
    """Whether this process has a child, dead or alive: one call of the system, where jobs leave nothing."""
    if not LISTED:
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def children(pid: int) -> Iterator[int]:
    """Of a process, also those that are dead and not asked for."""
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/%d/task" % pid):
            with contextlib.suppress(OSError), open("/proc/%d/task/%s/children" % (pid, thread)) as file:
                yield from map(int, file.read().split())


def descendants(pid: int, spared: FrozenSet[int] = frozenset()) -> Iterator[int]:
    """Children, their children and so on; neither those that are spared nor what these have started."""
    for child in children(pid):
        if child not in spared:
            yield child
            yield from descendants(child, spared)


def reap(pids: Collection[int]) -> None:
    """Ask for those children that are dead."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def end(roots: Collection[int], patience_s: float = KILL_S) -> bool:
    """Kill processes and all that descends from them; whether it was found in time.

    All are stopped first: none starts another meanwhile, nor loses the parent by which it is found.
    """
    deadline = time.monotonic() + patience_s
    found: Set[int] = set()
    while True:
        new = {pid for root in roots for pid in (root, *descendants(root))} - found
        for pid in new:
            _signal(pid, signal.SIGSTOP)
        found |= new
        if not new or time.monotonic() > deadline:
            break
    for pid in found:
        _signal(pid, signal.SIGKILL)
    return not new


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def started(pid: int) -> str:
    """When a process was started, since when the machine was; "" if it is gone. With it, no other is it."""
    with contextlib.suppress(OSError), open("/proc/%d/stat" % pid) as file:
        return file.read().rpartition(")")[2].split()[19]
    return ""


def marked(variable: bytes) -> Set[int]:
    """Processes that were started with that variable (``NAME=value``), as far as we may know it."""
    found = set()
    for name in os.listdir("/proc") if LISTED else []:
        if name.isdigit():
            with contextlib.suppress(OSError), open("/proc/%s/environ" % name, "rb") as file:
                if variable in file.read().split(b"\0"):
                    found.add(int(name))
    return found
