"""An InfluxDB write endpoint that counts points and keeps none: for jobs that are only looked at."""

from __future__ import annotations

import gzip
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

NO_CONTENT = 204


class Sink:
    """Takes whatever InfluxDB clients write, at ``url`` on this machine, as long as it is entered."""

    def __init__(self) -> None:
        self.points = 0
        """Lines that were written so far."""
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _request_class(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Sink:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: bytes) -> None:
        """Count the lines of one request."""
        with self._lock:
            self.points += sum(1 for line in body.splitlines() if line.strip())


def _request_class(sink: Sink) -> type[BaseHTTPRequestHandler]:
    class Request(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # /ping, /health
            self._answer()

        def do_POST(self) -> None:  # /api/v2/write
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                sink.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            except (OSError, EOFError, zlib.error):
                sink.take(b"")
            self._answer()

        def _answer(self) -> None:
            self.send_response(NO_CONTENT)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Request
