"""Installing tools at work: in a process group of their own, into a log file, stoppable at any time."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import signal
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cloudburst.commands import pipenv
from cloudburst.commands.command import Command, mask
from cloudburst.config import build_variables
from cloudburst.worker import ending

log = logging.getLogger(__name__)

_POLL_S = 0.1
_LAST_WORDS_S = 5.0
_LINE_BYTES = 64 * 1024
_TAIL_BYTES = 64 * 1024
_TAIL_LINES = 30

_SHORT = 4
"""Shorter values are not masked: they would be found in every line. Logins in URLs always are."""


_NOISE = re.compile(
    r"\[INFO\] (?!Could not)|--- (end )?resolver log|Using (C?[Pp]ython|/)|Path to python|Virtualenv location"
    r"|Pipfile: |(Creating|Successfully created) |pipenv\.exceptions\."
)
"""What tools say about themselves."""


class BuildStopped(Exception):
    """A build was stopped from outside. It says nothing about the payload."""


@dataclass(frozen=True)
class Tools:
    """How to run tools for one build. Their variables may hold secrets, and stay out of ``repr``."""

    environ: Mapping[str, str] = field(repr=False)
    note: Callable[[str], None]
    """Gets short lines for humans about what is being done."""
    stop: threading.Event
    given: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that a Pipfile may name; part of ``environ``. Their values are masked in all output."""

    @classmethod
    def of(
        cls,
        environ: Mapping[str, str],
        environments_dir: Path,
        note: Callable[[str], None] = lambda text: None,
        stop: threading.Event | None = None,
    ) -> Tools:
        """With what they need of the worker's variables; their caches are beside the environments."""
        cache = environments_dir.absolute() / "cache"
        given = build_variables(environ)
        kept = pipenv.environ_for_tools(environ, cache) | given
        return cls(kept, note, stop or threading.Event(), given)

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Variables that change what is installed, beyond what is locked."""
        return pipenv.options(self.environ)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no output may show, in all the forms that URLs give them."""
        forms: set[str] = set()
        for value in self.given.values():
            forms |= {value, urllib.parse.quote(value, safe=""), urllib.parse.unquote(value)}
        return tuple(sorted((form for form in forms if len(form) >= _SHORT), key=len, reverse=True))

    def run(
        self, command: Command, log_file: Path, *, held: int | None = None, stdout: Path | None = None
    ) -> int:
        """Run to the end and return the exit code; output is appended to ``log_file``, without secrets.

        With ``stdout`` only stderr is: stdout is written there as it is. The tool inherits the file
        descriptor ``held``: a lock on it lasts as long as the tool, even if this process is killed
        meanwhile. Raises BuildStopped; no process of it is left then.
        """
        with contextlib.ExitStack() as files:
            answer = files.enter_context(stdout.open("wb")) if stdout is not None else subprocess.PIPE
            process = ending.start(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.PIPE if stdout is not None else subprocess.STDOUT,
                cwd=command.cwd,
                env={**self.environ, **command.env},
                pass_fds=() if held is None else (held,),
            )
        output = process.stderr if stdout is not None else process.stdout
        assert output is not None  # noqa: S101 (one of them is a pipe)
        writer = threading.Thread(target=_write, args=(output, log_file, self.secrets), daemon=True)
        writer.start()
        try:
            return self._wait(process)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            writer.join(_LAST_WORDS_S)  # longer only if something that it has started keeps the pipe

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        while True:
            if self.stop.is_set():
                raise BuildStopped("the worker shuts down")
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_S)

    @contextlib.contextmanager
    def exclusively(self, lock_file: Path, what: str) -> Iterator[int]:
        """Hold ``lock_file`` against other processes and threads; yields its descriptor.

        Waits for as long as another holds it, and says so; raises BuildStopped.
        """
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        with lock_file.open("a") as file:
            if not _locked(file.fileno()):
                self.note(f"waiting for another build of {what}")
                while not _locked(file.fileno()):
                    if self.stop.wait(_POLL_S):
                        raise BuildStopped("the worker shuts down")
            yield file.fileno()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(output: IO[bytes], log_file: Path, secrets: tuple[str, ...]) -> None:
    """Line by line, so that a secret is found as a whole."""
    with output, log_file.open("ab", buffering=0) as file:
        while line := output.readline(_LINE_BYTES):
            file.write(mask(line.decode(errors="replace"), secrets).encode())


def tail(log_file: Path) -> str:
    """The last lines of a tool's output, without its own call stacks and without logins in URLs."""
    with log_file.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines: list[str] = []
    in_stack = False
    for line in text.splitlines():
        in_stack = line.startswith("Traceback (") or (in_stack and line.startswith(" "))
        if line.strip() and not in_stack and not _NOISE.match(line):
            lines.append(line.rstrip())
    return mask("\n".join(lines[-_TAIL_LINES:]))
