"""Read: what is there of a stack on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from cloudburst.hosts.process import Process, describe, with_variable
from cloudburst.stack import records
from cloudburst.stack.paths import Paths
from cloudburst.stack.probes import Ready
from cloudburst.stack.records import Record

State = Literal["absent", "running", "silent", "killed", "stale"]
"""
``absent``: never started, or stopped as it should be. ``running``: it does its work.
``silent``: its process is there and does not do its work. ``killed``: its process is gone, unasked.
``stale``: what was remembered of it is older than the machine's last start, or its pid is somebody else's.
"""

MARK = "CLOUDBURST_STACK_DIR"
"""Set for every service to the stack's directory, so that its processes can be found without their pids."""


STARTING_S = 15.0
"""A service that is younger may not be ready yet."""

POLL_S = 0.05

Pause = Callable[[float], None]
"""Sleeps so many seconds; raises when the user wants to stop."""


@dataclass(frozen=True)
class ServiceFacts:
    """One service as it is."""

    name: str
    state: State
    record: Record | None = None
    detail: str = ""
    """What is wrong, in words; "" when nothing is."""

    @property
    def process(self) -> Process | None:
        """Its process, if that is alive."""
        return self.record.process if self.record and self.state in {"running", "silent"} else None

    def has(self, settings: Mapping[str, str]) -> bool:
        """Whether it was started with these settings."""
        return self.record is not None and self.record.settings == settings


@dataclass(frozen=True)
class Facts:
    """A whole stack as it is."""

    services: dict[str, ServiceFacts]
    complete: bool
    """Its last start went through to the end, and it was not stopped since."""
    strays: tuple[Process, ...] = ()
    """Processes of the stack that no record leads to: from a start that was cut off, or a killed worker."""

    def running(self) -> list[ServiceFacts]:
        """Services with a live process, in the order in which they start."""
        return [self.services[name] for name in records.SERVICES if self.services[name].process]


def read(paths: Paths, probes: Mapping[str, Ready] | None = None, pause: Pause | None = None) -> Facts:
    """Look at every service; those with a probe are also asked whether they do their work.

    With ``pause``, one that is still starting gets the time to: another start may have been cut off.
    """
    known = records.read(paths)
    found: dict[str, ServiceFacts] = {}
    for name in records.SERVICES:
        record = known.get(name)
        probe = (probes or {}).get(name)
        if name == "worker" and found["queue"].state != "running":
            probe = None  # without Redis nobody can tell; it waits for Redis to come back
        if record is None:
            found[name] = ServiceFacts(name, "absent")
        elif not record.process.is_alive():
            found[name] = _gone(record)
        elif probe and not _does_its_work(record, probe, pause):
            found[name] = ServiceFacts(name, "silent", record, f"pid {record.process.pid} does not answer")
        else:
            found[name] = ServiceFacts(name, "running", record)
    return Facts(services=found, complete=paths.endpoints.exists(), strays=_strays(paths, found))


def _does_its_work(record: Record, probe: Ready, pause: Pause | None) -> bool:
    process = record.process
    while not probe(process.pid):
        if pause is None or time.time() - process.started_at > STARTING_S or not process.is_alive():
            return False
        pause(POLL_S)
    return True


def mark(paths: Paths) -> str:
    """The value of ``MARK``."""
    return f"{paths.root}/"


def _gone(record: Record) -> ServiceFacts:
    old = record.process
    now = Process.of(old.pid)
    if now is not None:
        detail = f"stale pid file: pid {old.pid} is now {describe(old.pid)}"
        return ServiceFacts(record.service, "stale", record, detail)
    if old.is_from_before_boot():
        return ServiceFacts(
            record.service, "stale", record, "stale pid file: the machine was restarted since then"
        )
    detail = f"its process (pid {old.pid}) was killed or crashed"
    return ServiceFacts(record.service, "killed", record, detail)


def _strays(paths: Paths, services: dict[str, ServiceFacts]) -> tuple[Process, ...]:
    prefixes = {MARK: mark(paths)}
    if services["worker"].process is None:
        # Executors have no mark, since a job's environment is its own; but their TMPDIR is the stack's.
        # While the worker runs, what they start is its business.
        prefixes["TMPDIR"] = mark(paths)
    marked = with_variable(prefixes)
    if not marked:
        return ()
    recorded = [facts.process for facts in services.values() if facts.process]
    family = {process.pid for one in recorded for process in (one, *one.descendants())}
    return tuple(process for process in marked if process.pid not in family)
