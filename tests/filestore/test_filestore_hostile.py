"""Clients that mean harm, or speak HTTP in ways that are allowed and rare."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.filestore.conftest import TOKEN, FileStoreProcess

MIB = 1024 * 1024


def said(server: FileStoreProcess, head: list[str], body: bytes = b"") -> bytes:
    """The first of the answer to a request made by hand."""
    with server.connect() as connection, contextlib.suppress(ConnectionError):
        connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
        return connection.makefile("rb").readline()
    return b""


@pytest.mark.parametrize(
    "options",
    [
        ["--http2"],
        ["--http2", "-H", "Transfer-Encoding: chunked"],
        ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket"],
    ],
)
@pytest.mark.parametrize("form", [False, True])
def test_curl_may_offer_http_2(filestore: FileStoreProcess, options: list[str], *, form: bool) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl")
    name = uuid.uuid4().hex
    filestore.put(name, b"old")
    contents = b"new" * 100_000
    address = ["-F", f"file=@-;filename={name}", f"{filestore.url}/upload"]
    if not form:
        address = ["-X", "PUT", "--data-binary", "@-", f"{filestore.url}/files/{name}"]
    run = subprocess.run(
        [curl, "-sS", "--fail-with-body", *options, "-H", f"Authorization: Bearer {TOKEN}", *address],
        input=contents,
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run
    assert filestore.ask("GET", f"/files/{name}").content == contents


JAVA = """
import java.net.URI;
import java.net.http.*;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

class Put {
    public static void main(String[] words) throws Exception {
        var body = words[2].equals("chunked")
            ? BodyPublishers.ofInputStream(() -> new java.io.ByteArrayInputStream("contents".getBytes()))
            : BodyPublishers.ofString("contents");
        var request = HttpRequest.newBuilder(URI.create(words[0])).header("Authorization", words[1]);
        var answer = HttpClient.newHttpClient().send(request.PUT(body).build(), BodyHandlers.ofString());
        System.out.print(answer.statusCode());
    }
}
"""
"""It asks for HTTP/2 by itself, with each request."""


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_java_offers_http_2(filestore: FileStoreProcess, framing: str, tmp_path: Path) -> None:
    java = shutil.which("java")
    if java is None:
        pytest.skip("there is no java")
    name = uuid.uuid4().hex
    filestore.put(name, b"old")
    (tmp_path / "Put.java").write_text(JAVA)

    said = subprocess.run(
        [java, tmp_path / "Put.java", f"{filestore.url}/files/{name}", f"Bearer {TOKEN}", framing],
        capture_output=True,
        text=True,
        check=True,
    )

    assert said.stdout == "200"
    assert filestore.ask("GET", f"/files/{name}").content == b"contents"


def test_a_huge_head_costs_no_memory_before_the_token_is_known(own_filestore: FileStoreProcess) -> None:
    before = own_filestore.peak_memory_bytes()
    for head in (b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"):
        with own_filestore.connect() as connection, contextlib.suppress(OSError):
            connection.sendall(head)
            line = b"X: y\r\n" if head.endswith(b"\r\n") else b"x"
            for _ in range(64):
                connection.sendall(line * (MIB // len(line)))
    assert own_filestore.peak_memory_bytes() - before < 16 * MIB
    assert own_filestore.ask("GET", "/health").status_code == 200


def test_a_form_whose_part_has_an_endless_header_is_refused(own_filestore: FileStoreProcess) -> None:
    before = own_filestore.peak_memory_bytes()

    def body():
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="f"; x="'
        for _ in range(64):
            yield b"x" * MIB

    for start in (b"", b"--B\r\nX-Long: ", b"--B\r\n"):
        answer = own_filestore.ask(
            "POST",
            "/upload",
            data=iter([start, *body()]),
            headers={"Content-Type": "multipart/form-data; boundary=B"},
        )
        assert answer.status_code == 400
        assert answer.json()["ok"] is False
    assert own_filestore.peak_memory_bytes() - before < 16 * MIB


def test_a_form_holds_little_beside_the_file(filestore: FileStoreProcess) -> None:
    name = uuid.uuid4().hex
    filestore.put(name, b"old")
    answer = filestore.ask("POST", "/upload", data={"junk": "x" * 2 * MIB}, files={"file": (name, b"new")})
    assert answer.status_code == 400
    assert "beside the file" in answer.json()["error"]
    assert filestore.ask("GET", f"/files/{name}").content == b"old"


@pytest.mark.parametrize(
    "ending",
    [
        b"5;" + b"x" * MIB + b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"fffffffffffffffffffff\r\nhello",
        b"5_0\r\nhello",
        b"-5\r\nhello",
        b"5\r\nhelloWORLD\r\n0\r\n\r\n",
    ],
    ids=["endless extension", "endless trailer", "huge chunk", "underscore", "negative", "too long"],
)
def test_chunks_that_are_wrong_leave_the_old_file(filestore: FileStoreProcess, ending: bytes) -> None:
    name = uuid.uuid4().hex
    filestore.put(name, b"old")
    head = [f"PUT /files/{name} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}"]
    answer = said(filestore, [*head, "Transfer-Encoding: chunked"], ending)
    # The connection may be gone before the answer was read.
    assert answer == b"" or answer.split()[1] in {b"400", b"431"}
    assert filestore.ask("GET", f"/files/{name}").content == b"old"


@pytest.mark.parametrize("length", ["5", "7", "-1", "5, 5", "0x5", "+5", "5 5", "1" * 30])
def test_a_wrong_content_length_stores_nothing(filestore: FileStoreProcess, length: str) -> None:
    name = uuid.uuid4().hex
    with filestore.connect() as connection:
        connection.sendall(
            f"PUT /files/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Connection: close\r\nContent-Length: {length}\r\n\r\nhello!".encode()
        )
        if length == "7":
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            connection.makefile("rb").read()
    stored = filestore.ask("GET", f"/files/{name}")
    # Five bytes are five bytes; what follows them is no request.
    assert stored.content == b"hello" if length in {"5", "5, 5"} else stored.status_code == 404


@pytest.mark.parametrize(
    "target",
    [
        "/files/%00",
        "/files/a%00b",
        "/files/%2e%2e/x",
        "/files/%2e%2e%2fx",
        "/files/..%2f..%2fetc%2fpasswd",
        "/files/a%0d%0aX-Evil:1",
        "/files/%ff%fe",
        "http://elsewhere/files/%2e%2e/x",
    ],
)
def test_no_spelling_of_a_name_is_unsafe(filestore: FileStoreProcess, target: str) -> None:
    head = [f"PUT {target} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", "Content-Length: 1"]
    assert said(filestore, head, b"x").split()[1] == b"400"


def test_the_whole_url_may_be_sent_and_needs_the_token_too(filestore: FileStoreProcess) -> None:
    name = uuid.uuid4().hex
    filestore.put(name, b"x")
    head = [f"GET {filestore.url}/files/{name} HTTP/1.1", "Host: x"]
    assert said(filestore, head).split()[1] == b"401"
    assert said(filestore, [f"GET {filestore.url}/health HTTP/1.1", "Host: x"]).split()[1] == b"200"
    assert said(filestore, [*head, f"Authorization: Bearer {TOKEN}"]).split()[1] == b"200"


def test_a_body_is_no_harm_where_none_is_expected(filestore: FileStoreProcess) -> None:
    name = uuid.uuid4().hex
    filestore.put(name, b"x")
    for method in ("HEAD", "GET"):
        assert filestore.ask(method, f"/files/{name}", data=b"y" * MIB).status_code == 200
    assert filestore.ask("DELETE", f"/files/{name}", data=b"y").status_code == 200


def test_a_flood_of_connections_leaves_room_for_those_who_ask(own_filestore: FileStoreProcess) -> None:
    flood = []
    try:
        for _ in range(1500):
            connection = own_filestore.connect()
            connection.sendall(b"GET /")
            flood.append(connection)
        own_filestore.put("f", b"x")
        assert own_filestore.ask("GET", "/files/f").content == b"x"
    finally:
        for connection in flood:
            connection.close()
