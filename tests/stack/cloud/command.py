"""The commands as processes of their own, which can be killed.

Run as a program it has everything imported, and forks a process for each line that it reads: a command.
As JSON. It answers with the number of the process, and with its exit code when it has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cloudburst.errors import CloudburstError
from cloudburst.providers.digitalocean.provider import DigitalOcean
from cloudburst.stack.cloud import deploy, removal
from cloudburst.stack.cloud.settings import Wishes
from tests.stack.cloud.parts import Swarm

ROOT = Path(__file__).resolve().parents[3]
STACK = "floods"

KILLED = -9


class Commands:
    """Runs ``up`` and ``down`` in processes of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = 0
        """Of the command that runs."""

    def run(self, environ: Mapping[str, str], verb: str, nodes: int = 0, kill_at_step: int = 0) -> int:
        """The exit code of the command; KILLED if it was."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = {"environ": dict(environ), "verb": verb, "nodes": nodes, "kill_at_step": kill_at_step}
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        self.pid = int(self._process.stdout.readline())
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def commands() -> Iterator[Commands]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stack.cloud.command"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Commands(process)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        go, may = os.pipe()
        pid = os.fork()
        if not pid:
            os.read(go, 1)  # not before the test knows whom to kill
            os._exit(command(asked))
        answer(pid)
        sys.stdin.readline()
        os.write(may, b"!")
        os.close(may)
        os.close(go)
        _, status = os.waitpid(pid, 0)
        answer(os.waitstatus_to_exitcode(status))


def command(asked: dict[str, Any]) -> int:
    environ = asked["environ"]
    provider = DigitalOcean(
        environ["DOTOKEN"],
        environ["DIGITALOCEAN_END_POINT"],
        sleep=lambda seconds: time.sleep(min(seconds, 0.01)),
    )
    swarm = Swarm(environ, STACK, kill_at=asked["kill_at_step"])
    try:
        if asked["verb"] == "up":
            wishes = Wishes(nodes=asked["nodes"])
            deploy.up(environ, ROOT, STACK, wishes, silent, provider=provider, swarm=swarm)
        else:
            removal.down(environ, STACK, silent, provider=provider, swarm=swarm)
    except CloudburstError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except BaseException:  # noqa: BLE001  # the process ends with os._exit, which would say nothing
        traceback.print_exc()
        return 99
    return 0


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def silent(_line: str) -> None: ...


if __name__ == "__main__":
    main()
