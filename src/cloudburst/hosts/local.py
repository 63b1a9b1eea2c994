"""This machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from cloudburst.commands.command import Command
from cloudburst.errors import CommandError, StackError
from cloudburst.hosts import pipes
from cloudburst.hosts.host import Completed, Line, Piped
from cloudburst.hosts.process import Process, describe
from cloudburst.hosts.running import Running

POLL_S = 0.02
KILL_S = 5.0
"""How long the kernel gets to take a killed process away."""


class LocalHost:
    """Runs commands on this machine. ``environ`` is what they inherit; a command's own variables win."""

    name = "this machine"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._running = Running()

    def run(self, command: Command, timeout_s: float, on_line: Line | None = None) -> Completed:
        """Run to the end. Raises CommandError when it cannot be started, fails, or takes too long."""
        try:
            done = self._running.run(
                command.argv,
                stdin=command.stdin,
                timeout_s=timeout_s,
                env={**self._environ, **command.env},
                cwd=command.cwd,
                on_line=on_line,
            )
        except subprocess.TimeoutExpired as error:
            raise self._failure(command, f"took longer than {timeout_s:g} s", -1, "") from error
        except OSError as error:
            raise self._failure(command, f"cannot be run: {error.strerror}", -1, "") from error
        if done.exit_code != 0:
            raise self._failure(command, f"failed (exit code {done.exit_code})", done.exit_code, done.stderr)
        return done

    def piped(self, command: Command) -> contextlib.AbstractContextManager[Piped]:
        """Start a command whose input or output is large; see ``Host``."""
        return pipes.piped(self.name, command.argv, command, {**self._environ, **command.env})

    def close(self) -> None:
        """End what ``run`` still runs; what was started stays."""
        self._running.end()

    def start(self, command: Command, log_file: Path) -> Process:
        """Start in a session of its own; stdout and stderr are appended to ``log_file``.

        It outlives this process. Raises CommandError when it cannot be started.
        """
        descriptor = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            child = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**self._environ, **command.env},
                cwd=command.cwd,
            )
        except OSError as error:
            raise self._failure(command, f"cannot be started: {error.strerror}", -1, "") from error
        finally:
            os.close(descriptor)
        # Not waited for yet, so at worst a zombie: its pid cannot have been given to another process.
        process = Process.of(child.pid) or Process(child.pid, time.time(), 0.0)
        self._children[child.pid] = child
        return process

    def exit_code(self, process: Process) -> int | None:
        """How a process that this object started has ended; None while it runs, or if another started it."""
        child = self._children.get(process.pid)
        return child.poll() if child else None

    def is_alive(self, process: Process) -> bool:
        """Whether that very process runs."""
        self.exit_code(process)  # a child that has ended stays in the process table until it is asked for
        return process.is_alive()

    def stop(self, process: Process, grace_s: float, pause: Callable[[float], None] = time.sleep) -> None:
        """SIGTERM, then after ``grace_s`` SIGKILL to it, its process group and its descendants.

        Returns when none of them is left; raises StackError when something survives, and whatever
        ``pause``, which sleeps, raises: the process has got its SIGTERM then.
        """
        family = set(process.descendants())
        _signal(process, signal.SIGTERM)
        _signal(process, signal.SIGCONT)  # a suspended process hears nothing
        began = time.monotonic()
        while self.is_alive(process) and time.monotonic() - began < grace_s:
            pause(POLL_S)
        family.update(process.descendants())
        if self.is_alive(process):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        family.add(process)
        self._kill(family)

    def _kill(self, family: Collection[Process]) -> None:
        for process in family:
            _signal(process, signal.SIGKILL)
        deadline = time.monotonic() + KILL_S
        while left := [process for process in family if self.is_alive(process)]:
            if time.monotonic() > deadline:
                raise StackError(
                    f"{', '.join(describe(process.pid) for process in left)}: still there "
                    f"{KILL_S:g} s after SIGKILL: is it stuck on a disk or network that does not answer?"
                )
            time.sleep(POLL_S)

    def _failure(self, command: Command, what: str, exit_code: int, stderr: str) -> CommandError:
        last = stderr.strip().splitlines()[-1:]
        message = f"{command.argv[0]}: {what}" + (f": {last[0]}" if last else "")
        return CommandError(message, host=self.name, exit_code=exit_code, stderr=stderr)


def _signal(process: Process, number: signal.Signals) -> None:
    if not process.is_alive():
        return
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise StackError(f"{describe(process.pid)} belongs to another user: stop it as that user") from None
