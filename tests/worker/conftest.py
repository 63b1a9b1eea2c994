"""A whole small stack for the worker's tests: real Redis, file store, points endpoint and workers."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudburst import archive
from cloudburst.filestore.client import FileStore
from cloudburst.model import EnsembleSpec, EnsembleStatus, JobRecord
from cloudburst.rqwire.ensembles import Ensembles, encode_description
from cloudburst.rqwire.workers import workers
from tests.conftest import RedisServer, free_port
from tests.wait import wait_until
from tests.worker import payload
from tests.worker.package_index import PackageIndex

TOKEN = "a-token"


class MiniStack:
    """Services that stay, and workers that tests start, kill and stop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "redis").mkdir(parents=True)
        self.redis_server = RedisServer(directory / "redis")
        self.filestore_port = free_port()
        self.points_port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._uploaded: dict[Path, str] = {}

    def start(self) -> None:
        self.redis_server.start()
        self.redis_server.url_of("worker")
        self.start_filestore()
        self.start_points()
        self.connect()

    def connect(self) -> None:
        self.redis = self.redis_server.client()
        self.ensembles = Ensembles(self.redis)
        self.store = FileStore(f"http://127.0.0.1:{self.filestore_port}", TOKEN)

    def start_filestore(self) -> subprocess.Popen[bytes]:
        environ = {
            "CLOUDBURST_FILES_DIR": str(self.directory / "files"),
            "CLOUDBURST_FILESTORE_PORT": str(self.filestore_port),
            "CLOUDBURST_FILESTORE_TOKEN": TOKEN,
        }
        return self._service("cloudburst.filestore", environ, self.filestore_port)

    def start_points(self) -> subprocess.Popen[bytes]:
        environ = {
            "CLOUDBURST_POINTS_DB": str(self.directory / "points.db"),
            "CLOUDBURST_POINTS_PORT": str(self.points_port),
            "CLOUDBURST_POINTS_TOKEN": TOKEN,
        }
        return self._service("cloudburst.points", environ, self.points_port)

    def _service(self, module: str, environ: dict[str, str], port: int) -> subprocess.Popen[bytes]:
        process = self._process(module, environ, module.rpartition(".")[2])
        wait_until(lambda: _healthy(port), 20, f"{module} to answer")
        return process

    def _process(self, module: str, environ: dict[str, str], log: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{log}.log").open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module], env=os.environ | environ, stdout=file, stderr=file
            )
        self.processes.append(process)
        return process

    def worker(self, *, slots: int = 1, state: str = "state", **settings: str) -> subprocess.Popen[bytes]:
        """Start a worker; its leases are short, so that tests are."""
        process = self.start_worker(slots=slots, state=state, **settings)
        wait_until(lambda: process.pid in {w.pid for w in workers(self.redis)}, 20, "the worker to register")
        return process

    def start_worker(self, *, slots: int, state: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start a worker without waiting for it."""
        environ = {
            "REDIS_PORT": str(self.redis_server.port),
            "REDIS_USERNAME": "worker",
            "REDIS_PASSWORD": "worker-password",
            "FILE_HOST_PORT": str(self.filestore_port),
            "FILE_HOST_TOKEN": TOKEN,
            "INFLUX_URL": f"http://127.0.0.1:{self.points_port}",
            "INFLUX_TOKEN": TOKEN,
            "CLOUDBURST_STATE_DIR": str(self.directory / state),
            "CLOUDBURST_SLOTS": str(slots),
            "CLOUDBURST_ALLOW_PICKLE": "1",
            "CLOUDBURST_LEASE_S": "2",
            "CLOUDBURST_NODE": state,
        }
        return self._process("cloudburst.worker", environ | settings, f"worker-{state}")

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def upload(self, directory: Path) -> str:
        """The payload's digest in the file store."""
        if directory not in self._uploaded:
            built = archive.build(directory, directory.with_suffix(".zip"))
            self.store.put(f"payloads/{built.sha256}.zip", built.path)
            self._uploaded[directory] = built.sha256
        return self._uploaded[directory]

    def submit(self, function: str, *descriptions: dict, digest: str = "", **spec) -> str:
        """An ensemble of these jobs on the test payload."""
        digest = digest or self.upload(self.directory / "payload")
        ensemble = self.ensembles.create(EnsembleSpec("e", function, digest, **spec))
        encoded = [encode_description(d, i) for i, d in enumerate(descriptions)]
        self.ensembles.append(ensemble, function, 0, encoded)
        self.ensembles.seal(ensemble)
        return ensemble

    def wait(self, ensemble: str, timeout_s: float = 60) -> list[JobRecord]:
        """All records, in the order of their indices, once every job is final."""

        def complete() -> EnsembleStatus | None:
            status = self.ensembles.status(ensemble)
            return status if status.complete else None

        wait_until(complete, timeout_s, f"{ensemble} to end")
        return sorted(self.ensembles.all_records(ensemble), key=lambda record: record.index)

    def run(self, function: str, *descriptions: dict, **spec) -> list[JobRecord]:
        return self.wait(self.submit(function, *descriptions, **spec))

    def failure(self, ensemble: str):
        (group,) = self.ensembles.failures(ensemble)
        return group

    def points(self, measurement: str) -> list[str]:
        """The points of a measurement, one JSON line each."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.points_port}/cloudburst/points?measurement={measurement}",
            headers={"Authorization": f"Token {TOKEN}"},
        )
        with urllib.request.urlopen(request) as answer:
            return answer.read().decode().splitlines()

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        refused = self.redis_server.refused()
        self.redis_server.kill()
        assert refused == set()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniStack]:
    """Services with one worker of two slots that stays for all tests of a module."""
    stack = MiniStack(tmp_path_factory.mktemp("stack"))
    payload.write(stack.directory / "payload")
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackageIndex]:
    server = PackageIndex(tmp_path_factory.mktemp("wheels"))
    yield server
    server.close()
