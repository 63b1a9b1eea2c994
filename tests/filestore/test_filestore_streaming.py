"""Large, broken and simultaneous transfers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import requests
from starlette.requests import Request
from starlette.types import Message

from cloudburst.errors import FileStoreError
from cloudburst.filestore import body
from tests.filestore.conftest import TOKEN, FileStoreProcess
from tests.wait import wait_until

MIB = 1024 * 1024
BOUNDARY = "a-boundary"


class Generated:
    """A multipart form with a file of ``size_mib``, made while it is sent; knows its own SHA-256."""

    def __init__(self, name: str, size_mib: int) -> None:
        self.hasher = hashlib.sha256()
        self._name = name
        self._size_mib = size_mib

    def __iter__(self) -> Iterator[bytes]:
        disposition = f'form-data; name="file"; filename="{self._name}"'
        yield f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        noise = bytearray(os.urandom(MIB))
        for number in range(self._size_mib):
            noise[:8] = number.to_bytes(8, "big")
            self.hasher.update(noise)
            yield bytes(noise)
        yield f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.mark.slow
def test_a_gibibyte_passes_through_constant_memory(own_filestore: FileStoreProcess) -> None:
    # when 1 GiB is uploaded as a form
    form = Generated("large", 1024)
    answer = own_filestore.ask(
        "POST", "/upload", data=form, headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    )
    # and fetched
    fetched = hashlib.sha256()
    with own_filestore.ask("GET", "/files/large", stream=True) as download:
        for block in download.iter_content(MIB):
            fetched.update(block)
    (own_filestore.files / "large").unlink()  # pytest keeps the directories of the last runs
    # then nothing is lost, and the server never held more than a few blocks
    assert answer.json()["sha256"] == form.hasher.hexdigest() == fetched.hexdigest()
    assert own_filestore.peak_memory_bytes() < 150 * MIB


SLOW_CLIENT = """
import sys, time, requests
url, token = sys.argv[1:]
def body():
    while True:
        yield b"n" * 2**20
        time.sleep(0.02)
requests.put(url, data=body(), headers={"Authorization": "Bearer " + token})
"""


def test_a_client_killed_in_the_middle_leaves_the_old_file_and_nothing_else(
    own_filestore: FileStoreProcess,
) -> None:
    # given a file, and a client that is replacing it
    own_filestore.put("f", b"old")
    client = subprocess.Popen([sys.executable, "-c", SLOW_CLIENT, f"{own_filestore.url}/files/f", TOKEN])
    wait_until(
        lambda: any(path.stat().st_size > 3 * MIB for path in own_filestore.arriving()), 20, "bytes to arrive"
    )
    # when the client is killed
    client.kill()
    client.wait()
    # then
    wait_until(lambda: own_filestore.arriving() == [], 10, "the temporary file to be removed")
    assert own_filestore.ask("GET", "/files/f").content == b"old"


def test_a_server_killed_in_the_middle_starts_again_with_the_old_file_and_nothing_else(
    own_filestore: FileStoreProcess,
) -> None:
    # given
    own_filestore.put("f", b"old")
    connection = own_filestore.begin_put("/files/f", 50 * MIB)
    connection.sendall(b"n" * 5 * MIB)
    wait_until(own_filestore.arriving, 10, "a temporary file")
    # when
    own_filestore.kill()
    assert own_filestore.arriving() != []
    own_filestore.start()
    # then
    assert own_filestore.arriving() == []
    assert own_filestore.ask("GET", "/files/f").content == b"old"
    connection.close()


def test_a_file_that_is_replaced_while_it_is_sent_arrives_as_it_was(filestore: FileStoreProcess) -> None:
    # given a download that has begun, of more than all buffers on the way can hold
    old = os.urandom(32 * MIB)
    filestore.put("replaced", old)
    with filestore.ask("GET", "/files/replaced", stream=True) as download:
        blocks = download.iter_content(MIB)
        first = next(blocks)
        # when the file is replaced
        filestore.put("replaced", b"new")
        # then the rest is still that of the old file
        assert first + b"".join(blocks) == old
    assert filestore.ask("GET", "/files/replaced").content == b"new"
    filestore.ask("DELETE", "/files/replaced")


def test_of_simultaneous_uploads_one_wins_whole(filestore: FileStoreProcess) -> None:
    # given eight different contents, and a reader that looks all the time
    versions = [bytes([number]) * (3 * MIB + number) for number in range(8)]
    known = {f'"{hashlib.sha256(version).hexdigest()}"' for version in versions}
    filestore.put("contested", versions[0])
    seen: list[tuple[str, str]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            answer = filestore.ask("GET", "/files/contested")
            seen.append((answer.headers["ETag"], f'"{hashlib.sha256(answer.content).hexdigest()}"'))

    # when all are uploaded at once under one name
    threads = [threading.Thread(target=filestore.put, args=("contested", version)) for version in versions]
    reader = threading.Thread(target=look)
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    reader.join()
    # then whatever was read was one of them, whole, under its own ETag
    assert filestore.ask("GET", "/files/contested").content in versions
    assert seen
    for announced, actual in seen:
        assert announced == actual
        assert announced in known


def test_an_upload_does_not_wait_for_another(filestore: FileStoreProcess) -> None:
    # given a client that has stopped in the middle
    with filestore.begin_put("/files/slow", 1000) as slow:
        slow.sendall(b"x" * 10)
        wait_until(filestore.arriving, 10, "the slow upload to begin")
        # when another one stores and reads
        filestore.put("quick", b"q")
        assert filestore.ask("GET", "/files/quick").content == b"q"
        # then the first can still go on
        slow.sendall(b"x" * 990)
        assert b"200 OK" in slow.recv(4096)


def test_a_client_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a limit shorter than two minutes, and a client that sends a little and then nothing more
    monkeypatch.setattr(body, "IDLE_LIMIT_S", 0.1)
    messages = [{"type": "http.request", "body": b"some", "more_body": True}]

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def read() -> bytes:
        return b"".join(
            [chunk async for chunk in body.chunks(Request({"type": "http", "headers": []}, receive))]
        )

    # then its request ends
    with pytest.raises(FileStoreError, match="nothing arrived for") as caught:
        asyncio.run(read())
    assert caught.value.status == 408


def test_a_client_that_leaves_a_download_costs_nothing(filestore: FileStoreProcess) -> None:
    # given a large sparse file and clients that read a little of it
    with (filestore.files / "sparse").open("wb") as file:
        file.truncate(50 * MIB)
    for _ in range(5):
        with requests.get(f"{filestore.url}/files/sparse?token={TOKEN}", stream=True, timeout=30) as answer:
            next(answer.iter_content(MIB))
    # then the server has closed the file each time
    assert filestore.process is not None
    descriptors = f"/proc/{filestore.process.pid}/fd"

    def still_open() -> list[str]:
        links = [os.path.join(descriptors, number) for number in os.listdir(descriptors)]
        return [link for link in links if os.path.lexists(link) and os.readlink(link).endswith("/sparse")]

    wait_until(lambda: not still_open(), 10, "the file to be closed")
    filestore.ask("DELETE", "/files/sparse")
