"""Act: take the steps of a plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cloudburst.commands.command import Command
from cloudburst.errors import CommandError, StackError
from cloudburst.hosts import process as processes
from cloudburst.hosts.local import LocalHost
from cloudburst.hosts.process import Process
from cloudburst.stack import records
from cloudburst.stack.facts import POLL_S, Facts, Pause
from cloudburst.stack.paths import Paths, naming, write_private
from cloudburst.stack.plan import Plan
from cloudburst.stack.records import Record
from cloudburst.stack.service import Service

PREPARE_S = 600.0
"""How long it may take to look through a large append-only file."""

LOG_LIMIT_BYTES = 20 * 1024 * 1024
"""A log that is larger when its service starts makes room; the one before it is kept."""

LOG_LAST_BYTES = 64 * 1024
LOG_LINES = 12
"""Shown of the log of a service that dies at start."""

Say = Callable[[str], None]
"""Takes one line for the user."""


class Act:
    """Starts and stops services, and keeps the records of them."""

    def __init__(self, host: LocalHost, paths: Paths, say: Say, pause: Pause) -> None:
        self._host = host
        self._paths = paths
        self._say = say
        self._pause = pause

    def carry_out(self, plan: Plan, facts: Facts) -> None:
        """Take all steps. When one fails, what this call has started is stopped again."""
        self.stop_strays(plan.strays)
        for name in plan.stop:
            self.stop(facts.services[name].record, plan.reasons[name])
        started: list[tuple[Service, Process]] = []
        try:
            self._start_all(plan, started)
            self._pause(0)
        except BaseException as error:
            if started:
                self._say("stopping again what was started")
            for service, process in reversed(started):
                try:
                    self._host.stop(process, service.grace_s)
                    records.remove(self._paths, service.name)
                except (StackError, OSError) as another:
                    error.add_note(f"{service.name} may still run: {another}")
            raise

    def stop_all(self, wanted: Sequence[Record | None]) -> None:
        """Stop these services, each whether or not others can be stopped; then raise the first error."""
        failures: list[Exception] = []
        for record in wanted:
            try:
                self.stop(record)
            except (StackError, OSError) as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def stop(self, record: Record | None, reason: str = "") -> None:
        """Stop one service and all its processes."""
        if record is None:
            return
        why = f" ({reason})" if reason else ""
        grace = f", which may take up to {record.grace_s:g} s" if record.service == "worker" else ""
        self._say(f"{record.service}: stopping{grace}{why}")
        self._host.stop(record.process, record.grace_s, self._pause)
        records.remove(self._paths, record.service)

    def stop_strays(self, strays: tuple[Process, ...]) -> None:
        """Stop processes of the stack that no record leads to."""
        for process in strays:
            if process.is_alive():  # not stopped with another one's family
                self._say(f"left over: {processes.describe(process.pid)}: stopping")
                self._host.stop(process, 5, self._pause)

    def _start_all(self, plan: Plan, started: list[tuple[Service, Process]]) -> None:
        """The worker needs the others; these get ready side by side."""
        offsets: dict[str, int] = {}
        for wave in (
            [service for service in plan.start if service.name != "worker"],
            [service for service in plan.start if service.name == "worker"],
        ):
            first = len(started)
            for service in wave:
                self._pause(0)
                reason = plan.reasons.get(service.name)
                if reason and service.name not in plan.stop:
                    self._say(f"{service.name}: {reason}; starting it again")
                offsets[service.name] = self._make_room(self._paths.log(service.name))
                self._start(service, started)
            for service, process in started[first:]:
                self._wait(service, process, offsets[service.name])

    def _start(self, service: Service, started: list[tuple[Service, Process]]) -> None:
        for path, text in service.files.items():
            write_private(path, text)
        if service.before:
            self._prepare(service.name, service.before)
        process = self._host.start(service.command, self._paths.log(service.name))
        started.append((service, process))  # before anything can fail, such as the disk being full
        records.write(self._paths, Record(service.name, process, service.grace_s, service.settings))

    def _prepare(self, name: str, command: Command) -> None:
        try:
            said = self._host.run(command, PREPARE_S).stdout
        except CommandError as error:
            raise StackError(f"{name}: {error.stderr.strip() or error}") from error
        path = self._paths.log(name)
        with naming(path), path.open("a", encoding="utf-8") as log:
            log.write(said)

    def _wait(self, service: Service, process: Process, offset: int) -> None:
        """Return when the service does its work (StackError when it dies or takes too long)."""
        log = self._paths.log(service.name)
        deadline = time.monotonic() + service.ready_s
        while not service.ready(process.pid):
            if not self._host.is_alive(process):
                raise StackError(_died(service.name, self._host.exit_code(process), log, offset))
            if time.monotonic() > deadline:
                raise StackError(
                    f"{service.name}: not ready after {service.ready_s:g} s{_last_lines(log, offset)}"
                )
            self._pause(POLL_S)
        if not self._host.is_alive(process):  # another process answers at its address
            raise StackError(_died(service.name, self._host.exit_code(process), log, offset))
        self._say(f"{service.name}: started{f', {service.address}' if service.address else ''}")

    def _make_room(self, log: Path) -> int:
        """Size of the log, from where this start's lines come."""
        size = log.stat().st_size if log.exists() else 0
        if size <= LOG_LIMIT_BYTES:
            return size
        log.replace(log.with_suffix(".log.1"))
        return 0


def _died(name: str, exit_code: int | None, log: Path, offset: int) -> str:
    how = f"signal {-exit_code}" if exit_code and exit_code < 0 else f"exit code {exit_code}"
    return f"{name}: died at start ({how}){_last_lines(log, offset)}"


def _last_lines(log: Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(max(offset, log.stat().st_size - LOG_LAST_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    shown = "".join(f"\n  {line}" for line in lines) or "\n  (it wrote nothing)"
    return f"; the end of {log}:{shown}"
