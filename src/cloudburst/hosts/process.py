"""Processes of this machine, told apart even when a pid is used again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

import psutil

from cloudburst.errors import StackError

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

    @classmethod
    def from_json(cls, text: str, source: str) -> Process:
        """Parse what ``to_json`` wrote; ``source`` names the file in errors (StackError)."""
        try:
            raw = json.loads(text)
            return cls(int(raw["pid"]), float(raw["started_at"]), float(raw["born_s"]))
        except (ValueError, TypeError, KeyError) as error:
            raise StackError(f"{source}: does not name a process ({error!r}); remove the file") from error

    def to_json(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    def is_alive(self) -> bool:
        """Whether this very process runs, not another one with its pid."""
        now = Process.of(self.pid)
        return now is not None and abs(now.born_s - self.born_s) < SAME_START_S

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


def listener(port: int) -> int | None:
    """The pid that listens on that TCP port of this machine; None when nobody does, or it is hidden."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return connection.pid
    return None


def with_variable(names: Collection[str], prefix: str) -> list[Process]:
    """Processes of this user in whose environment one of the variables begins with ``prefix``."""
    found = []
    for process in psutil.process_iter():
        try:
            environ = process.environ()
        except (psutil.Error, OSError):
            continue
        if any(environ.get(name, "").startswith(prefix) for name in names) and (
            known := Process.of(process.pid)
        ):
            found.append(known)
    return found
