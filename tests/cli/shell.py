"""The command line as a user runs it: processes in a directory of their own, with one stack."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloudburst import Ensemble, Stack
from cloudburst.model import Endpoints
from cloudburst.rqwire.connection import Redis
from tests.ensemble.parts import ScriptedWorker

SUBMIT = ("submit", "floods", "--payload", "model", "--function", "worker.work")


class Shell:
    """Call it with the arguments of one command: ``shell("watch", "floods")``."""

    def __init__(self, directory: Path, where: Endpoints, redis: Redis) -> None:
        self.directory = directory
        self.environ = os.environ | {"CLOUDBURST_HOME": str(directory / "home"), "COLUMNS": "100"}
        self.environ.pop("CLOUDBURST_STACK", None)
        self.stack = Stack(where)
        self.redis = redis
        self.add_stack("local")

    def add_stack(self, name: str, **changes: str) -> None:
        """Make a stack known by that name, with endpoints that differ in ``changes``."""
        folder = self.directory / "home" / name
        folder.mkdir(parents=True)
        (folder / "endpoints.json").write_text(replace(self.stack.endpoints, **changes).to_json())

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from cloudburst.cli import main; main()", *arguments]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=self.environ, cwd=self.directory, text=True, **(pipes | options))

    def __call__(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @contextlib.contextmanager
    def on_terminal(self, *arguments: str) -> Iterator[Terminal]:
        """A command on a pseudo-terminal of 100 columns."""
        master, slave = pty.openpty()
        process = self.start(*arguments, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        terminal = Terminal(process, master)
        try:
            yield terminal
        finally:
            process.kill()
            terminal.exit_code(10)
            os.close(master)

    def submitted(self, count: int = 4) -> Ensemble:
        """An ensemble called floods, of jobs with the seeds 0 to ``count``."""
        jobs = ({"seed": seed} for seed in range(count))
        return self.stack.submit("floods", function="worker.work", jobs=jobs)

    def worker(self, function: Any) -> ScriptedWorker:
        return ScriptedWorker(self.redis, function)


class Terminal:
    """What a command has drawn so far."""

    def __init__(self, process: subprocess.Popen[str], master: int) -> None:
        self._process = process
        self._master = master
        self._data = bytearray()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace")

    def exit_code(self, timeout_s: float = 30) -> int:
        """Wait for the end of the command, and of what it drew."""
        code = self._process.wait(timeout_s)
        self._reading.join(10)
        return code

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while data := os.read(self._master, 65536):
                self._data.extend(data)


def double(params: dict[str, Any]) -> dict[str, Any]:
    return {"double": 2 * params["seed"]}


def odd_fails(params: dict[str, Any]) -> dict[str, Any]:
    if params["seed"] % 2:
        raise ValueError(f"seed {params['seed']} is odd")
    return double(params)


def last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2]
