"""Processes of this machine, told apart even when a pid is used again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

SAME_START_S = 0.05
"""Kernels count starts in hundredths of a second; two processes with one pid never start that close."""


@dataclass(frozen=True)
class Process:
    """One process, past or present: its pid and when it started."""

    pid: int
    started_at: float
    """Unix time in seconds, as the clock stood when it was looked at."""
    born_s: float
    """What tells it from others with the same pid: a clock that is set does not move it."""

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has that pid now; None if there is none (a zombie is none)."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            started_at = process.create_time()
        except psutil.Error:
            return None
        # On Linux a start is counted from boot, and psutil adds the boot time as today's clock has it.
        born = started_at - psutil.boot_time() if psutil.LINUX else started_at
        return cls(pid=pid, started_at=started_at, born_s=born)

    def is_alive(self) -> bool:
        """Whether this very process runs, not another one with its pid."""
        now = Process.of(self.pid)
        return now is not None and abs(now.born_s - self.born_s) < SAME_START_S

    def is_from_before_boot(self) -> bool:
        """Whether it ran before this machine was started last."""
        return self.started_at < psutil.boot_time()

    def descendants(self) -> list[Process]:
        """Its children, their children and so on; none when it is gone."""
        if not self.is_alive():
            return []
        try:
            children = psutil.Process(self.pid).children(recursive=True)
        except psutil.Error:
            return []
        return [process for child in children if (process := Process.of(child.pid))]

    def memory_bytes(self) -> int:
        """Resident memory of it and its descendants."""
        total = 0
        for process in [self, *self.descendants()]:
            with contextlib.suppress(psutil.Error):
                total += psutil.Process(process.pid).memory_info().rss
        return total


def describe(pid: int) -> str:
    """``redis-server (pid 812)``: for messages about somebody else's process."""
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"


def with_variable(prefixes: Mapping[str, str]) -> list[Process]:
    """Processes of this user in whose environment one of the variables begins with its prefix.

    This process and those that it descends from are left out.
    """
    found = []
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        if process.pid in ours:
            continue
        try:
            environ = process.environ()
        except (psutil.Error, OSError):
            continue  # somebody else's, or gone meanwhile
        if any(environ.get(name, "").startswith(prefix) for name, prefix in prefixes.items()):
            known = Process.of(process.pid)
            if known:
                found.append(known)
    return found
