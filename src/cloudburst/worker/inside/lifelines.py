"""What ends with what, and who gets the machine first."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import select
import signal
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
NICE = 5


def die_with_parent() -> None:
    """Linux: this process is killed when the one that started it dies, however it dies."""
    with contextlib.suppress(Exception):
        libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Linux: a descendant of this process that loses its parent becomes a child of this process."""
    with contextlib.suppress(Exception):
        libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@functools.lru_cache(maxsize=None)
def libc() -> Any:
    """The C library; kept, because forks should not have to load it."""
    import ctypes

    return ctypes.CDLL(None)


def all_die_with(lifeline: int) -> None:
    """Linux: when the pipe breaks, the kernel kills all of our process group, what jobs have started too.

    Not with die_with_parent(): the kernel would kill us first, and with us forget what we have asked for.
    """
    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | fcntl.FASYNC)
    broken = select.poll()
    broken.register(lifeline)
    if broken.poll(0):  # before we asked
        os._exit(1)


def stand_back() -> None:
    """Let the services have the CPU when they want it: they want little, and all executors wait for them.

    Linux: when memory runs out, the kernel kills executors before the worker or Redis.
    """
    os.nice(NICE)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("800")
