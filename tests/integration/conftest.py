"""The local stack as a user has it, used through its commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ANY_PORTS = ("--redis-port=0", "--file-port=0", "--influx-port=0", "--dash-port=0")


class Shell:
    """Runs commands as a user types them, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = os.environ | {"CLOUDBURST_HOME": str(home), "COLUMNS": "100"}

    def __call__(
        self, *argv: object, stdin: str = "", timeout_s: float = 120, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(argument) for argument in argv],
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def cloudburst(self, *argv: object, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        return self(BIN / "cloudburst", *argv, stdin=stdin, **environ)

    def up(self, *argv: str, **environ: str) -> None:
        done = self.cloudburst("stack", "up", "--local", *ANY_PORTS, *argv, **environ)
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        self.cloudburst("stack", "down", "--local")

    def endpoints(self) -> dict[str, str]:
        return json.loads((self.home / "local" / "endpoints.json").read_text())


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell with a running local stack of two slots."""
    shell = Shell(tmp_path_factory.mktemp("home"))
    shell.up("-n", "2")
    yield shell
    shell.down()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A payload without dependencies."""
    return write_model(tmp_path / "model")


def write_model(directory: Path, **files: str) -> Path:
    """A payload directory: ``worker.py``, ``Pipfile`` and what else is given, with _ for the dot."""
    directory.mkdir()
    (directory / "Pipfile").write_text("[packages]\n")
    (directory / "worker.py").write_text(WORKER)
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)
    return directory


WORKER = """
import ctypes, os, sys, time

def work(params):
    if params.get("seed") == "bad":
        print("looking at the bad one")
        raise ValueError("no such seed")
    return {"square": params["seed"] ** 2}

def sleep(params):
    print("sleeping", flush=True)
    time.sleep(params["s"])
    return params["s"]

def misbehave(params):
    return globals()[params["how"]]()

def hang():
    while True:
        time.sleep(0.1)

def leave():
    sys.exit(4)

def crash():
    ctypes.string_at(0)

def fill():
    blocks = []
    while True:
        blocks.append(b"x" * (8 << 20))

def object_():
    return object()

def flood():
    for _ in range(1_000_000):
        print("x" * 99)
    raise RuntimeError("after 100 MB")
"""
