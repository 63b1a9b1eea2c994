"""The two halves of a transfer, seen from the client: what is still to be sent, and what has arrived."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import BinaryIO

from cloudburst.errors import FileStoreError
from cloudburst.filestore.patience import Unreachable

BLOCK_BYTES = 1024 * 1024


class Rest:
    """The body of an upload: ``file`` from ``start`` to its ``size``.

    Its blocks are larger than the 16 KiB in which ``http.client`` would read a file.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.start = start
        self.size = size
        self.sent = 0
        self._file = file

    def __len__(self) -> int:
        return self.size - self.start

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self.start)
        while self.sent < len(self):
            block = self._file.read(min(BLOCK_BYTES, len(self) - self.sent))
            if not block:
                return
            yield block
            self.sent += len(block)

    @property
    def content_range(self) -> str:
        span = f"{self.start}-{self.size - 1}" if len(self) else "*"
        return f"bytes {span}/{self.size}"


class Arrival:
    """What has arrived of a download, and of which version of the file."""

    def __init__(self, name: str, file: io.FileIO) -> None:
        self.size = 0
        self._name = name
        self._file = file
        self._hasher = hashlib.sha256()
        self._total = 0
        self._version = ""

    def wanted(self) -> dict[str, str]:
        """Headers that ask for the rest of this version, or for the whole file if it was replaced."""
        if not self.size:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": f'"{self._version}"'}

    def begin(self, version: str, coming_bytes: int, *, is_rest: bool) -> None:
        """An answer begins, with ``coming_bytes`` of ``version``: the rest of the file, or all of it."""
        if not is_rest:
            self.size = 0
            self._hasher = hashlib.sha256()
            self._file.seek(0)
            self._file.truncate()
        self._version = version
        self._total = self.size + coming_bytes

    def add(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._hasher.update(block)
        self.size += len(block)

    def verified(self) -> str:
        """The SHA-256 of what arrived; FileStoreError if it is not complete, or not what was announced."""
        if self.size < self._total:
            raise Unreachable(
                f"{self._name!r}: the connection broke at byte {self.size:,} of {self._total:,}"
            )
        sha256 = self._hasher.hexdigest()
        if sha256 != self._version:
            raise FileStoreError(f"{self._name!r} was damaged on the way (SHA-256 {sha256}): fetch it again")
        return sha256
