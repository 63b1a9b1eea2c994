"""What a client that has shown no token yet can do to a service: nothing that lasts."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from cloudburst import serving
from cloudburst.serving import connection
from tests.wait import wait_until


class Service:
    """A service that answers with the number of bytes that it got; its limits are as short as tests need."""

    def __init__(self) -> None:
        self.listener = serving.listener("the test", "127.0.0.1", 0, "PORT")
        self.server = uvicorn.Server(serving.configured(self._app, lifespan="off"))
        self.thread = threading.Thread(
            target=lambda: asyncio.run(self.server.serve(sockets=[self.listener])), daemon=True
        )
        self.thread.start()
        wait_until(lambda: self.server.started, 20, "the service to start")

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), timeout=30)

    def ask(self, *lines: str, body: bytes = b"") -> bytes:
        """The answer to one request, up to the end of the connection."""
        with self.connect() as client:
            client.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
            return _all_of(client)

    def open_connections(self) -> int:
        return len(self.server.server_state.connections)

    def end(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)

    @staticmethod
    async def _app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        request = Request(scope, receive)
        got = 0
        async for chunk in request.stream():
            got += len(chunk)
        size = int(request.query_params.get("answer", "0"))
        await PlainTextResponse(f"{scope['path']} {got}" + "x" * size)(scope, receive, send)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(connection, "CHECK_S", 0.05)
    found = Service()
    yield found
    found.end()


def _answer(client: socket.socket) -> bytes:
    """The body of one answer; the connection goes on."""
    answer = http.client.HTTPResponse(client)
    answer.begin()
    return answer.read()


def _all_of(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_a_head_that_never_ends_is_cut_off_when_it_is_too_large(service: Service) -> None:
    with service.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")

        def is_cut_off() -> bool:
            try:
                client.sendall(b"x" * 65536)
            except OSError:
                return True
            return False

        wait_until(is_cut_off, 20, "the connection to be closed")


@pytest.mark.parametrize("head", ["GET /" + "x" * 400_000 + " HTTP/1.1", "\r\n".join(["X: y"] * 100_000)])
def test_a_large_head_is_answered_with_431(service: Service, head: str) -> None:
    with service.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\n" if head.startswith("X") else b"")
        client.sendall(head[: 2 * connection.HEAD_LIMIT_BYTES].encode())
        answer = client.recv(65536)
    assert b" 431 " in answer.splitlines()[0]
    assert b'"error":"the head of the request is larger than' in answer


def test_what_is_no_http_is_told_so_in_json(service: Service) -> None:
    with service.connect() as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01 TLS, it seems\r\n\r\n")
        answer = _all_of(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"ok":false' in answer
    assert b'"code":"invalid"' in answer


def test_a_client_that_sends_its_head_drop_by_drop_is_cut_off(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.5)
    with service.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\n")

        def is_cut_off() -> bool:
            try:
                client.sendall(b"X-More: 1\r\n")
            except OSError:
                return True
            return False

        wait_until(is_cut_off, 20, "the connection to be closed")


def test_a_client_that_says_nothing_is_cut_off(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.3)
    with service.connect() as client:
        assert _all_of(client) == b""


def test_a_client_may_take_its_time_for_the_body(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.2)
    with service.connect() as client:
        client.sendall(b"PUT /f HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n")
        began = time.monotonic()
        for letter in b"abcdefgh":
            time.sleep(0.1)
            client.sendall(bytes([letter]))
        assert time.monotonic() - began > connection.HEAD_S
        assert _answer(client) == b"/f 8"


def test_a_connection_is_kept_for_the_next_request_but_not_for_ever(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "KEPT_S", 0.5)
    with service.connect() as client:
        for _ in range(3):
            client.sendall(b"GET /f HTTP/1.1\r\nHost: x\r\n\r\n")
            assert _answer(client) == b"/f 0"
        assert _all_of(client) == b""


def test_a_client_that_does_not_read_its_answer_is_cut_off(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALL_S", 0.3)
    with service.connect() as client:
        client.sendall(b"GET /f?answer=50000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: service.open_connections() == 1, 20, "the request to arrive")
        wait_until(lambda: service.open_connections() == 0, 20, "the connection to be closed")


def test_a_flood_of_idle_connections_leaves_room_for_a_request(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECTIONS", 50)
    idle = [service.connect() for _ in range(200)]
    try:
        assert b"/f 0" in service.ask("GET /f HTTP/1.1", "Host: x")
        wait_until(lambda: service.open_connections() <= 50, 20, "the oldest to give way")
    finally:
        for client in idle:
            client.close()


@pytest.mark.parametrize(
    "upgrade",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="),
        ("Connection: Upgrade", "Upgrade: anything/1"),
        ("Expect: 100-continue",),
    ],
)
@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_a_body_arrives_whatever_protocol_the_client_would_rather_speak(
    service: Service, upgrade: tuple[str, ...], framing: str
) -> None:
    body = b"5\r\nhello\r\n0\r\n\r\n" if "chunked" in framing else b"hello"
    with service.connect() as client:
        client.sendall("\r\n".join(["PUT /f HTTP/1.1", "Host: x", *upgrade, framing, "", ""]).encode() + body)
        assert _answer(client) == b"/f 5"
        # The connection goes on as before.
        client.sendall(b"GET /again HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _answer(client) == b"/again 0"


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: -5",),
        ("Content-Length: 5_0",),
        ("Content-Length: 99999999999999999999999999",),
        ("Transfer-Encoding: gzip, chunked",),
        ("X-Content-SHA256: a", "X-Content-SHA256: b"),
        ("Authorization: Bearer a", "Authorization: Bearer b"),
        ("Host: other",),
        ("Bad header: y",),
    ],
)
def test_a_request_that_could_be_read_in_two_ways_is_refused(
    service: Service, headers: tuple[str, ...]
) -> None:
    answer = service.ask("PUT /f HTTP/1.1", "Host: x", *headers, body=b"0\r\n\r\n")
    assert answer.splitlines()[0].split()[1] in {b"400", b"501"}
    assert b'"ok":false' in answer


@pytest.mark.parametrize(
    ("target", "path"),
    [("http://x/f", b"/f 0"), ("http://x", b"/ 0"), ("https://x:1/a/b", b"/a/b 0"), ("*", b"* 0")],
)
def test_the_whole_url_may_be_sent(service: Service, target: str, path: bytes) -> None:
    assert path in service.ask(f"GET {target} HTTP/1.1", "Host: x")
