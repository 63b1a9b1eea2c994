"""The client of the file store: whole files in and out, verified, over connections that may break."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import requests

from cloudburst.errors import FileStoreError
from cloudburst.filestore.connection import Connection
from cloudburst.filestore.listing import StoredFile
from cloudburst.filestore.patience import Patience
from cloudburst.filestore.transfers import BLOCK_BYTES, Arrival, Rest

ARRIVING_BYTES = 64 * 1024
"""What has come of a download is written after so much: somebody may read along."""

RESUMABLE_BYTES = 32 * 1024 * 1024
"""From this size on, an upload that broke goes on where it stood instead of from the start."""


class FileStore:
    """The file store at ``url``, such as ``http://127.0.0.1:25478``, for whoever has its ``token``.

    ``timeout_s`` is the longest silence that is taken for a working connection, not the longest transfer.
    With ``ca_file``, the authority in that PEM file is the only one whose certificates are believed.
    Every failure is a FileStoreError, with the HTTP status or 0. Broken transfers go on by themselves.
    """

    def __init__(self, url: str, token: str, timeout_s: float = 60.0, *, ca_file: str = "") -> None:
        self._connection = Connection(url, token, timeout_s, ca_file)

    def put(self, name: str, source: Path | bytes) -> str:
        """Store the contents of ``source`` as ``name``, replacing it at once; return their SHA-256.

        Large contents that are there already are not sent again.
        """
        path = self._connection.path(name)
        with _opened(source) as file:
            size, sha256 = _measured(file)
            if size < RESUMABLE_BYTES:
                self._put_whole(path, file, size, sha256)
            else:
                self._put_resumable(name, file, size, sha256)
        return sha256

    def get(
        self, name: str, target: Path, *, expect_sha256: str | None = None, growing: Path | None = None
    ) -> str:
        """Write the file ``name`` to ``target``, replacing it at once; return its SHA-256.

        The contents are verified. With ``expect_sha256``, other contents are an error and are not fetched.
        ``growing``: the file beside ``target`` in which they arrive, for those who read along, unverified.
        """
        temporary = growing or target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb", buffering=0) as file:
                sha256 = self._fetch(name, Arrival(name, file), expect_sha256)
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError as error:
            raise FileStoreError(f"cannot write {target} ({error.strerror})") from error
        finally:
            temporary.unlink(missing_ok=True)
        return sha256

    def read(self, name: str) -> bytes | None:
        """The contents of a small file, verified; None if there is no file ``name``."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "contents")
            try:
                self.get(name, target)
            except FileStoreError as error:
                if error.status == 404:
                    return None
                raise
            return target.read_bytes()

    def etag(self, name: str) -> str | None:
        """SHA-256 of the file ``name``; None if there is none."""
        return self._read_version(
            self._connection.ask_again("HEAD", self._connection.path(name), allow=(404,))
        )

    def exists(self, name: str) -> bool:
        """Whether there is a file ``name``."""
        return self.etag(name) is not None

    def delete(self, name: str) -> None:
        """Remove the file ``name``; nothing happens if there is none."""
        self._connection.ask_again("DELETE", self._connection.path(name), allow=(404,)).close()

    def list(self, prefix: str = "") -> tuple[StoredFile, ...]:
        """The files whose names start with ``prefix``."""
        with self._connection.ask_again("GET", "/files/", params={"prefix": prefix}) as answer:
            try:
                return tuple(StoredFile(**entry) for entry in answer.json()["files"])
            except (requests.JSONDecodeError, KeyError, TypeError) as error:
                raise self._connection.foreign() from error

    def _put_whole(self, path: str, file: BinaryIO, size: int, sha256: str) -> None:
        patience = Patience()
        while True:
            body = Rest(file, 0, size) if size else b""
            try:
                self._connection.ask("PUT", path, headers={"X-Content-SHA256": sha256}, body=body)
                return
            except FileStoreError as error:
                patience.wait_after(error)

    def _put_resumable(self, name: str, file: BinaryIO, size: int, sha256: str) -> None:
        """Send what is missing, until all of it is there. The protocol is in ``cloudburst.filestore``."""
        patience, furthest, restarted = Patience(), 0, False
        while True:
            rest = Rest(file, 0, 0)
            try:
                path = self._connection.path(name)
                if self._read_version(self._connection.ask("HEAD", path, allow=(404,))) == sha256:
                    return
                rest = Rest(file, self._offset(name, sha256), size)
                if rest.start > furthest:
                    furthest = rest.start
                    patience.progress()
                self._send(name, rest, sha256)
                return
            except FileStoreError as error:
                if rest.sent:
                    patience.begun()
                if error.status == 400 and rest.start > 0 and not restarted:
                    # What was there from before was damaged, such as by a power failure, and is gone now.
                    restarted = True
                else:
                    patience.wait_after(error)

    def _offset(self, name: str, sha256: str) -> int:
        path = self._connection.path(name, folder="uploads")
        with self._connection.ask("HEAD", path, headers={"X-Content-SHA256": sha256}) as answer:
            return self._connection.size(answer, "Upload-Offset")

    def _send(self, name: str, rest: Rest, sha256: str) -> None:
        headers = {"X-Content-SHA256": sha256, "Content-Range": rest.content_range}
        body = rest if len(rest) else b""
        self._connection.ask("PUT", self._connection.path(name), headers=headers, body=body)

    def _fetch(self, name: str, arrival: Arrival, expected: str | None) -> str:
        path, patience, furthest = self._connection.path(name), Patience(), 0
        while True:
            try:
                with self._connection.ask("GET", path, headers=arrival.wanted(), stream=True) as answer:
                    self._receive(answer, name, arrival, expected)
                return arrival.verified()
            except FileStoreError as error:
                if arrival.size > furthest:
                    furthest = arrival.size
                    patience.progress()
                patience.wait_after(error)

    def _receive(self, answer: requests.Response, name: str, arrival: Arrival, expected: str | None) -> None:
        version = self._version(answer)
        if expected and version != expected:
            raise FileStoreError(
                f"{name!r} has other contents in the file store than expected (SHA-256 {version} instead of "
                f"{expected}): it was replaced"
            )
        coming_bytes = self._connection.size(answer, "Content-Length")
        arrival.begin(version, coming_bytes, is_rest=answer.status_code == 206)
        with self._connection.failures():
            for block in answer.iter_content(ARRIVING_BYTES):
                arrival.add(block)

    def _read_version(self, answer: requests.Response) -> str | None:
        with answer:
            return None if answer.status_code == 404 else self._version(answer)

    def _version(self, answer: requests.Response) -> str:
        # A gateway that compresses makes tags weak.
        return self._connection.header(answer, "ETag").removeprefix("W/").strip('"')


@contextmanager
def _opened(source: Path | bytes) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        with source.open("rb") as file:
            yield file
    except OSError as error:
        raise FileStoreError(f"cannot read {source} ({error.strerror})") from error


def _measured(file: BinaryIO) -> tuple[int, str]:
    """Size and SHA-256 of what ``file`` holds."""
    hasher = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        hasher.update(block)
    return file.tell(), hasher.hexdigest()
