"""A real file store process, and a connection to it that breaks on demand."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import free_port
from tests.wait import wait_until

TOKEN = "sesame-5f1c"


class FileStoreProcess:
    """``python -m cloudburst.filestore`` on a directory and a port of its own."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.files = directory / "files"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "log"
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDBURST_")}
        return clean | {
            "CLOUDBURST_FILES_DIR": str(self.files),
            "CLOUDBURST_FILESTORE_PORT": str(self.port),
            "CLOUDBURST_FILESTORE_TOKEN": TOKEN,
            **self.settings,
        }

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cloudburst.filestore"], env=self.environment(), stdout=log, stderr=log
            )
        wait_until(self._answers, 20, f"the file store to answer\n{self.log.read_text()}")

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def ask(self, method: str, path: str, **options: object) -> requests.Response:
        """A request with the token."""
        headers = {"Authorization": f"Bearer {TOKEN}", **options.pop("headers", {})}  # type: ignore[dict-item]
        return requests.request(method, self.url + path, headers=headers, timeout=60, **options)  # type: ignore[arg-type]

    def put(self, name: str, contents: bytes) -> str:
        """Store a file; its ETag."""
        answer = self.ask("PUT", f"/files/{name}", data=contents)
        assert answer.status_code == 200, answer.text
        return answer.headers["ETag"]

    def log_with(self, text: str, times: int = 1) -> str:
        """The log, once it says that so often: a request's line is written after its answer is sent."""
        wait_until(lambda: self.log.read_text().count(text) >= times, 20, f"{text!r} in the log")
        return self.log.read_text()

    def arriving(self) -> list[Path]:
        """Temporary files of uploads that are under way."""
        return list((self.files / ".store" / "incoming").iterdir())

    def partials(self) -> list[Path]:
        """What is kept of resumable uploads."""
        return list((self.files / ".store" / "partial").iterdir())

    def peak_memory_bytes(self) -> int:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def begin_put(self, path: str, size: int, *headers: str) -> socket.socket:
        """Send only the head of a PUT; whoever called this sends as much of the body as it likes."""
        connection = self.connect()
        lines = [
            f"PUT {path} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {TOKEN}",
            f"Content-Length: {size}",
        ]
        connection.sendall("\r\n".join([*lines, *headers, "", ""]).encode())
        return connection

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.ConnectionError:
            return False


@pytest.fixture(scope="session")
def filestore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileStoreProcess]:
    """A file store shared by all tests that do not harm it; each uses names of its own."""
    server = FileStoreProcess(tmp_path_factory.mktemp("filestore"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_filestore(tmp_path: Path) -> Iterator[FileStoreProcess]:
    """A file store for one test alone, which may stop, kill and restart it."""
    server = FileStoreProcess(tmp_path / "filestore")
    server.start()
    yield server
    server.kill()


class BreakingLink:
    """A TCP relay to ``port`` that cuts each connection after a number of bytes, in either direction."""

    def __init__(self, port: int, *, cut_after: list[int]) -> None:
        self.cuts = list(cut_after)
        """Bytes after which the first, second, ... connection is cut; later ones are not."""
        self.made = 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.made += 1
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            budget = [self.cuts.pop(0) if self.cuts else sys.maxsize]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_relay, args=(source, sink, budget), daemon=True).start()


def _relay(source: socket.socket, sink: socket.socket, budget: list[int]) -> None:
    with contextlib.suppress(OSError):
        while budget[0] > 0 and (data := source.recv(min(65536, budget[0]))):
            budget[0] -= len(data)
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
