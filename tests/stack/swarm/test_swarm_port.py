"""A machine becomes a node when its last swarm's port is free. Docker, and what starts it, are stand-ins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from cloudburst.errors import StackError
from cloudburst.hosts.local import LocalHost
from cloudburst.stack.swarm.act import free_port
from cloudburst.stack.swarm.runner import Runner
from tests.conftest import free_port as unused_port

LISTEN = """
import socket, sys
family, kind = socket.AddressFamily[sys.argv[1]], socket.SocketKind[sys.argv[2]]
listening = socket.socket(family, kind)
listening.bind(("", int(sys.argv[3])))
if kind == socket.SOCK_STREAM:
    listening.listen()
print(flush=True)
sys.stdin.read()
"""


class Machine:
    """Its Docker still listens at a port. ``restart`` is what a restart of it does."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.said: list[str] = []
        self.port = unused_port()
        self.listening: subprocess.Popen[bytes] | None = None
        for name in ("docker", "update-rc.d", "service", "systemctl"):
            self.program(name, "")

    def program(self, name: str, does: str) -> None:
        (self._directory / name).write_text(f"#!/bin/sh\n{does}\n")
        (self._directory / name).chmod(0o755)

    def listen(self, kind: str = "SOCK_STREAM", family: str = "AF_INET") -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", LISTEN, family, kind, str(self.port)]
        self.listening = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.listening.stdout is not None
        self.listening.stdout.readline()
        return self.listening

    def restart(self, does: str) -> None:
        for name in ("service", "systemctl"):
            self.program(name, f'case "$*" in *restart*) {does} ;; esac')

    def become_free(self, wait_s: int = 1) -> None:
        host = LocalHost(os.environ | {"PATH": f"{self._directory}:{os.environ['PATH']}"})
        free_port(Runner({host.name: host}, self.said.append), host.name, self.port, wait_s)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    machine.restart("exit 1")
    yield machine
    if machine.listening:
        machine.listening.communicate()


def test_nothing_is_done_where_the_port_is_free(there: Machine) -> None:
    there.become_free()

    assert there.said == []


@pytest.mark.parametrize(
    ("kind", "family"),
    [("SOCK_STREAM", "AF_INET"), ("SOCK_STREAM", "AF_INET6"), ("SOCK_DGRAM", "AF_INET")],
)
def test_a_port_that_becomes_free_is_waited_for(there: Machine, kind: str, family: str) -> None:
    listening = there.listen(kind, family)
    Timer(0.7, listening.terminate).start()

    there.become_free(30)

    assert listening.poll() is not None
    assert there.said == []


def test_docker_is_restarted_when_it_does_not_let_go(there: Machine) -> None:
    listening = there.listen()
    there.restart(f"kill {listening.pid}")

    there.become_free()

    assert there.said == [
        f"this machine: restarting Docker, since port {there.port} is still in use after another swarm"
    ]


def test_it_is_not_restarted_where_containers_run(there: Machine) -> None:
    there.listen()
    there.program("docker", "echo c0ffee")

    with pytest.raises(StackError, match="restart Docker on it"):
        there.become_free()

    assert there.said == []


def test_a_port_that_somebody_else_has_is_named(there: Machine) -> None:
    there.listen()
    there.restart("exit 0")

    with pytest.raises(StackError, match=f"this machine: port {there.port}, .* is in use there"):
        there.become_free()
