"""What benchmarks run against: real services and workers, on free ports, in a directory of their own.

Redis is started as every stack starts it (``commands.redis_server``: append-only file, fsync every second).
The peers get one without persistence, as their own benchmarks do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import redis

from cloudburst import Stack
from cloudburst.commands import redis_server, services
from cloudburst.ensemble.ensemble import Ensemble
from cloudburst.hosts.local import LocalHost
from cloudburst.model import Endpoints
from cloudburst.stack import redis_binary

TOKEN = "benchmark"


class Redis:
    """One redis-server process."""

    def __init__(self, directory: Path, *, persistent: bool = True) -> None:
        directory.mkdir(parents=True)
        host = LocalHost(os.environ)
        binary = redis_binary.find(host, os.environ.get("PATH", os.defpath))
        self.version = (
            host.run(redis_server.version(binary), timeout_s=10).stdout.split()[2].removeprefix("v=")
        )
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        server = redis_server.RedisServer(binary, self.port, directory, directory / "redis.conf")
        server.config_file.write_text(server.config() + ("" if persistent else "appendonly no\n"))
        self.process = subprocess.Popen(server.command().argv, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port)
        until(self._answers, "redis-server to answer", 10)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def stop(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()


class Usage:
    """What a Redis has done since this was made: CPU, commands, bytes."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        client.config_resetstat()
        self._cpu_s = self._cpu()
        self._began = time.monotonic()

    def _cpu(self) -> float:
        info: Any = self._client.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])

    def since(self) -> dict[str, float]:
        """Seconds of CPU, commands (those inside scripts too), replies (round trips), bytes in and out."""
        stats: Any = self._client.info("stats")
        return {
            "seconds": time.monotonic() - self._began,
            "cpu_s": self._cpu() - self._cpu_s,
            "commands": sum(row["calls"] for row in self.commands().values()),
            "replies": stats["total_writes_processed"],
            "bytes_in": stats["total_net_input_bytes"],
            "bytes_out": stats["total_net_output_bytes"],
        }

    def commands(self) -> dict[str, dict[str, float]]:
        """Calls and microseconds of each command."""
        raw: Any = self._client.info("commandstats")
        return {name.removeprefix("cmdstat_"): row for name, row in raw.items()}


class Services:
    """Queue, file store and, if asked for, the points endpoint; workers are started and stopped as needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._relay = _itself
        self._token_file = directory / "token"
        self._token_file.write_text(TOKEN)
        self.redis = Redis(directory / "redis")
        self.filestore_port, self.points_port = free_port(), free_port()
        self._service(
            services.filestore(
                sys.executable,
                host="127.0.0.1",
                port=self.filestore_port,
                directory=directory / "files",
                token_file=self._token_file,
            ),
            self.filestore_port,
        )
        self._service(
            services.points(
                sys.executable,
                host="127.0.0.1",
                port=self.points_port,
                database=directory / "points.db",
                token_file=self._token_file,
            ),
            self.points_port,
        )
        self.stack = Stack(
            Endpoints(
                stack="benchmark",
                redis_url=self.redis.url,
                filestore_url=f"http://127.0.0.1:{self.filestore_port}",
                filestore_token=TOKEN,
                influx_url=f"http://127.0.0.1:{self.points_port}",
                influx_token=TOKEN,
            )
        )

    def _service(self, command: Any, port: int) -> None:
        self.start(command.argv, command.env, command.argv[-1])
        until(lambda: _healthy(port), f"{command.argv[-1]} to answer", 30)

    def start(self, argv: tuple[str, ...], environ: Mapping[str, str], log: str) -> subprocess.Popen[bytes]:
        """Start a process that ends with the services."""
        with (self.directory / f"{log}.log").open("ab") as file:
            process = subprocess.Popen(argv, env=os.environ | dict(environ), stdout=file, stderr=file)
        self._processes.append(process)
        return process

    @contextlib.contextmanager
    def behind(self, relay: Callable[[int], int]) -> Iterator[None]:
        """Workers started meanwhile reach each service at the port that ``relay`` gives for its own."""
        self._relay = relay
        try:
            yield
        finally:
            self._relay = _itself

    def worker(
        self, *, slots: int, points: bool = True, state: str = "worker", **settings: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker process as every stack does; without ``points`` it knows no database."""
        token = str(self._token_file)
        influx_url = f"http://127.0.0.1:{self._relay(self.points_port)}"
        influx = {"INFLUX_URL": influx_url, "INFLUX_TOKEN_FILE": token} if points else {}
        command = services.worker(
            sys.executable,
            redis_host="127.0.0.1",
            redis_port=self._relay(self.redis.port),
            redis_password_file=None,
            filestore_host="127.0.0.1",
            filestore_port=self._relay(self.filestore_port),
            filestore_token_file=self._token_file,
            influx=influx,
            state_dir=self.directory / state,
            slots=slots,
            allow_pickle=True,
            builds={},
        )
        return self.start(command.argv, {**command.env, **settings}, f"cloudburst.{state}")

    def stop(self) -> None:
        for process in reversed(self._processes):
            end(process)
        self.redis.stop()


@contextlib.contextmanager
def running() -> Iterator[Services]:
    """Services in a temporary directory; all of it is gone afterwards, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="cloudburst-bench-", ignore_cleanup_errors=True) as directory:
        services_ = Services(Path(directory))
        try:
            yield services_
        finally:
            services_.stop()


@contextlib.contextmanager
def bare_redis() -> Iterator[Redis]:
    """A Redis without persistence, for a peer."""
    with tempfile.TemporaryDirectory(prefix="cloudburst-bench-", ignore_cleanup_errors=True) as directory:
        server = Redis(Path(directory) / "redis", persistent=False)
        try:
            yield server
        finally:
            server.stop()


def end(process: subprocess.Popen[bytes], timeout_s: float = 20) -> None:
    """SIGTERM, and SIGKILL when that does not help."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ended_at(ensemble: Ensemble, timeout_s: float = 600, poll_s: float = 0.02) -> float:
    """When its last job was recorded, to ``poll_s``: Unix time in seconds. Exits if not all finished."""
    until(lambda: ensemble.status().complete, "the ensemble to end", timeout_s, poll_s)
    ended = time.time()
    status = ensemble.status()
    if status.finished != status.total:
        errors = [f"{group.count} × {group.error}" for group in ensemble.failures()]
        raise SystemExit(f"not all jobs finished: {errors or status}")
    return ended


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], what: str, timeout_s: float, poll_s: float = 0.02) -> None:
    """Return when the condition holds; exit saying what was waited for when it takes too long."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {timeout_s} s for {what}")
        time.sleep(poll_s)


def _itself(port: int) -> int:
    return port


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
