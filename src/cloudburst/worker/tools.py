"""Installing tools at work: in a process group of their own, into a log file, stoppable at any time."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from cloudburst.commands import pipenv
from cloudburst.commands.command import Command, mask
from cloudburst.errors import BuildError

log = logging.getLogger(__name__)

_POLL_S = 0.1
_TAIL_BYTES = 64 * 1024
_TAIL_LINES = 30

_PIP_SETTINGS = (
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host"),
    *("cert", "client-cert", "proxy", "keyring-provider", "retries", "timeout"),
)


class BuildStopped(Exception):
    """A build was stopped from outside. It says nothing about the payload."""


@dataclass(frozen=True)
class Tools:
    """How to run tools for one build."""

    environ: Mapping[str, str]
    note: Callable[[str], None]
    """Gets short lines for humans about what is being done."""
    stop: threading.Event

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
        return cls(pipenv.environ_for_tools(environ, cache), note, stop or threading.Event())

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Variables that change what is installed, beyond what is locked."""
        return pipenv.options(self.environ)

    def run(self, command: Command, log_file: Path, *, held: int | None = None) -> int:
        """Run to the end and return the exit code; output is appended to ``log_file``.

        The tool inherits the file descriptor ``held``: a lock on it lasts as long as the tool, even if
        this process is killed meanwhile. Raises BuildStopped; no process of it is left then.
        """
        with log_file.open("ab") as output:
            process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=command.cwd,
                env={**self.environ, **command.env},
                pass_fds=() if held is None else (held,),
                start_new_session=True,
            )
        try:
            return self._wait(process)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise

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


def installing(tools: Tools, scratch: Path) -> Tools:
    """The same tools, with temporary files in ``scratch`` and pip's configuration files as variables.

    pipenv hides these files from pip when it installs: a proxy or certificate in them would be lost.
    """
    environ = {**tools.environ, "TMPDIR": str(scratch)}
    package = find_spec("pipenv")
    if package is None or package.origin is None:
        raise BuildError("pipenv is not installed beside CloudBurst: install CloudBurst again")
    output = scratch / "pip-settings"
    if tools.run(pipenv.pip_settings(sys.executable, Path(package.origin).parent), output) != 0:
        log.warning("pip's configuration cannot be read, going on without it: %s", tail(output))
        return replace(tools, environ=environ)
    return replace(tools, environ=pip_variables(output.read_text(encoding="utf-8")) | environ)


def pip_variables(listed: str) -> dict[str, str]:
    """What ``pip config list`` says about reaching packages, such as ``global.proxy='...'``, as PIP_PROXY."""
    variables: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in {"global", "install"} and name in _PIP_SETTINGS:
            variables[f"PIP_{name.upper().replace('-', '_')}"] = " ".join(
                str(ast.literal_eval(value)).split()
            )
    return variables


def tail(log_file: Path) -> str:
    """The last lines of a tool's output, without its own call stacks and without logins in URLs."""
    with log_file.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines: list[str] = []
    in_stack = False
    for line in text.splitlines():
        in_stack = line.startswith("Traceback (") or (in_stack and line.startswith(" "))
        if line.strip() and not in_stack:
            lines.append(line.rstrip())
    return mask("\n".join(lines[-_TAIL_LINES:]))


def reason(tool_output: str) -> str:
    """The first line that names an error, without the word; "" if none does."""
    for line in tool_output.splitlines():
        word, colon, rest = line.strip().partition(": ")
        if colon and word.lower() == "error":
            return rest
    return ""
