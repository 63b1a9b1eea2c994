"""A package index on this machine that counts what is asked of it: pages, files and bytes.

It holds the files that were fetched once beforehand from the index that pip is set to, so neither that index'
speed nor the network's enters a measurement. Nothing is cached on the way: who asks twice is counted twice.
"""

from __future__ import annotations

import hashlib
import html
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Asked:
    """What was asked of the index since the last ``take``."""

    pages: int = 0
    bytes: int = 0
    files: Counter[str] = field(default_factory=Counter)

    def values(self) -> dict[str, float]:
        """As quantities of a round."""
        return {
            "index files": sum(self.files.values()),
            "index files asked twice or more": sum(count > 1 for count in self.files.values()),
            "index MB": self.bytes / 1e6,
            "index pages": self.pages,
        }


class CountingIndex:
    """Serves the wheels in ``folder`` at ``url``, in the simple layout of PEP 503 with PEP 658 metadata."""

    def __init__(self, folder: Path) -> None:
        self._wheels = {path.name: path for path in folder.glob("*.whl")}
        self._asked = Asked()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._requests())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/simple/"

    def take(self) -> Asked:
        """What was asked until now; counting begins anew."""
        with self._lock:
            asked, self._asked = self._asked, Asked()
        return asked

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def page(self, project: str) -> bytes | None:
        """The links to a project's files; None if there are none."""
        lines = [
            f'<a href="/files/{html.escape(name)}#sha256={sha256(path)}" '
            f'data-dist-info-metadata="true">{html.escape(name)}</a>'
            for name, path in self._wheels.items()
            if normal(name.partition("-")[0]) == normal(project)
        ]
        return (
            ("<!DOCTYPE html><html><body>" + "\n".join(lines) + "</body></html>").encode() if lines else None
        )

    def _requests(index) -> type[BaseHTTPRequestHandler]:
        class Request(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                kind, _, name = self.path.strip("/").partition("/")
                wheel = index._wheels.get(name.removesuffix(".metadata"))
                if kind == "simple":
                    self._send(index.page(name), "text/html", pages=1)
                elif wheel is not None and name.endswith(".metadata"):
                    self._send(metadata(wheel), "text/plain", pages=1)
                elif wheel is not None:
                    self._send_file(wheel)
                else:
                    self._send(None, "text/plain")

            def _send(self, body: bytes | None, kind: str, pages: int = 0) -> None:
                self._head(200 if body is not None else 404, kind, len(body or b""))
                self.wfile.write(body or b"")
                with index._lock:
                    index._asked.pages += pages
                    index._asked.bytes += len(body or b"")

            def _send_file(self, wheel: Path) -> None:
                size = wheel.stat().st_size
                self._head(200, "application/octet-stream", size)
                with wheel.open("rb") as file:
                    shutil.copyfileobj(file, self.wfile, 1 << 20)
                with index._lock:
                    index._asked.files[wheel.name] += 1
                    index._asked.bytes += size

            def _head(self, status: int, kind: str, size: int) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(size))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Request


def fetch(project: Path, folder: Path) -> None:
    """Put the files that the Pipfile.lock of ``project`` names for this Python into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = subprocess.run(
        [sys.executable, "-m", "pipenv", "requirements", "--hash"],
        cwd=project,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    listed = folder / "requirements.txt"
    # The index that pip is set to here is the one to ask, not the lock's.
    listed.write_text("".join(line for line in wanted.splitlines(True) if not line.startswith("-i ")))
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*argv, "-r", str(listed), "-d", str(folder)], check=True, stdout=sys.stderr)


def normal(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def metadata(wheel: Path) -> bytes:
    """The METADATA file of a wheel, which resolvers read instead of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return next(archive.read(n) for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
