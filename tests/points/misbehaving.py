"""A database that answers each write as a test says: a status, silence, a cut, or what the real one says."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from cloudburst.points.database import Login


class Write(http.server.BaseHTTPRequestHandler):
    """One write, and what can be done with it."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together, or the client waits 40 ms for the second of them
    server: Misbehaving

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(self.body)
        self.server.behave(self)

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang(self) -> None:
        """Say nothing until the test is over, or the writer has lost its patience."""
        self.server.over.wait(30)
        self.close_connection = True

    def cut(self) -> None:
        """Close the connection without an answer."""
        self.close_connection = True

    def pass_on(self, url: str) -> tuple[int, bytes]:
        """Let the real database take the write; its answer."""
        address = urlsplit(url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
        connection.request("POST", self.path, self.body, {"Authorization": self.headers["Authorization"]})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def log_message(self, *args: object) -> None:
        pass


class Misbehaving(http.server.ThreadingHTTPServer):
    """``behave`` is called with each write; ``bodies`` are those of all writes so far."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Write)
        self.behave: Callable[[Write], None] = lambda write: write.reply(204)
        self.bodies: list[bytes] = []
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.login = Login(self.url, "a-token-that-no-log-may-show", "cloudburst", "cloudburst")
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def end(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A writer that was killed, or lost its patience, is what these tests are about."""
