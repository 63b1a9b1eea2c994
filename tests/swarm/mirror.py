"""Debian's packages, kept on this machine: a small HTTP proxy for apt."""

from __future__ import annotations

import shutil
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from tests.swarm import debian

# Indexes of Debian change a few times a day.
FRESH_S = 3600


class Mirror:
    """Serves ``http://HOST/path`` to apt as its proxy, and ``/HOST/path`` as a mirror.

    What never changes comes from the cache; what does is asked for again after an hour, and comes from the
    cache where there is no network.
    """

    def __init__(self, cache: Path, address: str, port: int = 0) -> None:
        self._server = _Server((address, port), cache)
        self.url = f"http://{address}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # apt keeps connections open

    def __init__(self, address: tuple[str, int], cache: Path) -> None:
        super().__init__(address, _Request)
        self.cache = cache
        self.downloading = threading.Lock()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path = self.path.removeprefix("http://").lstrip("/")
        if path.partition("/")[0] not in debian.hosts() or ".." in path.split("/"):
            return self.send_error(403, "this mirror has Debian's packages only")
        file = self.server.cache / path.replace("%", "_")
        try:
            if not _good(file, path):
                with self.server.downloading:
                    if not _good(file, path):
                        _download(f"http://{path}", file)
        except urllib.error.HTTPError as error:
            return self.send_error(error.code)
        except OSError as error:
            if not file.is_file():
                return self.send_error(503, f"{type(error).__name__}")
        with file.open("rb") as content:
            self.send_response(200)
            self.send_header("Content-Length", str(file.stat().st_size))
            self.end_headers()
            shutil.copyfileobj(content, self.wfile)
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def _good(file: Path, path: str) -> bool:
    for_ever = "/pool/" in path or "/by-hash/" in path
    return file.is_file() and (for_ever or time.time() - file.stat().st_mtime < FRESH_S)


def _download(url: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.new-{threading.get_ident()}")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, new.open("wb") as content:
            shutil.copyfileobj(answer, content)
        new.rename(file)
    finally:
        new.unlink(missing_ok=True)
