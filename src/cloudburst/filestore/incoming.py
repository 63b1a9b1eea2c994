"""A file on its way in: counted, hashed and written in blocks while the next bytes arrive."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cloudburst.errors import FileStoreError
from cloudburst.filestore import space
from cloudburst.filestore.blocks import BLOCK_BYTES, in_thread

if TYPE_CHECKING:
    from _hashlib import HASH as Hasher

Bytes: TypeAlias = bytes | memoryview

SYNC_EVERY_BYTES = 256 * 1024 * 1024
"""Flushing as we go keeps the last flush short, before which no answer is sent, at any file size."""


class Incoming:
    """The bytes of one file, appended to ``path`` in the order in which they are handed over.

    After an error in any method the contents of ``path`` are not known, and it has to be closed.
    """

    def __init__(self, path: Path, limit_bytes: int, *, size: int = 0, hasher: Hasher | None = None) -> None:
        """Go on after the first ``size`` bytes, which ``hasher`` has seen already."""
        self.path = path
        self.size = size
        """Bytes accepted; some of the last may not be on disk yet."""
        self.hasher = hasher or hashlib.sha256()
        self._limit_bytes = limit_bytes
        self._waiting: list[Bytes] = []
        self._waiting_bytes = 0
        self._unsynced_bytes = 0
        self._block: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()
        self._file = path.open("ab", buffering=0)

    async def write(self, piece: Bytes) -> None:
        """Accept ``piece``. FileStoreError: 413 beyond the limit, 507 when the disk is full."""
        self.size += len(piece)
        if self.size > self._limit_bytes:
            raise too_large(self._limit_bytes)
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= BLOCK_BYTES:
            async with self._turn:
                await self._start_block()

    async def flush(self) -> None:
        """Return when all accepted bytes are written (not: safe from a power failure)."""
        async with self._turn:
            await self._start_block()
            await self._settle_block()

    async def finish(self) -> str:
        """Return the SHA-256 of all bytes once they are on the disk itself."""
        await self.flush()
        await in_thread(os.fsync, self._file.fileno())
        if self.stat().st_size != self.size:
            raise FileStoreError("somebody else wrote into a file that was arriving: send it again", 500)
        return self.hasher.hexdigest()

    async def close(self) -> None:
        """Close the file as far as it is written. Bytes that wait are dropped."""
        if self._block:
            # Its error, if any, was raised by write or flush already, or is of no interest any more.
            await asyncio.wait([self._block])
        self._file.close()

    def stat(self) -> os.stat_result:
        """State of the file itself, wherever it was moved in the meantime."""
        return os.fstat(self._file.fileno())

    async def _start_block(self) -> None:
        await self._settle_block()
        pieces, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if pieces:
            # Not awaited here: while this block is hashed and written, the next one arrives.
            self._block = asyncio.get_running_loop().run_in_executor(None, self._append, pieces)

    async def _settle_block(self) -> None:
        if self._block:
            await asyncio.shield(self._block)
            self._block = None

    def _append(self, pieces: list[Bytes]) -> None:
        # Joined first: each call below lets go of the interpreter and has to win it back from the event
        # loop, which made uploads a quarter slower when it was done for every piece.
        block = memoryview(b"".join(pieces))
        space.check(self.path.parent, len(block))
        self.hasher.update(block)
        self._unsynced_bytes += len(block)
        while block:
            block = block[self._file.write(block) :]
        if self._unsynced_bytes >= SYNC_EVERY_BYTES:
            os.fdatasync(self._file.fileno())
            self._unsynced_bytes = 0


def too_large(limit_bytes: int) -> FileStoreError:
    """The error for a file beyond the limit, with status 413."""
    return FileStoreError(
        f"the file is larger than this file store's limit of {limit_bytes:,} bytes "
        "(CLOUDBURST_FILESTORE_LIMIT_BYTES)",
        status=413,
    )


def check_contents(name: str, arrived: str, expected: str) -> None:
    """Raise FileStoreError with status 400 unless both SHA-256 are equal."""
    if arrived != expected:
        raise FileStoreError(
            f"the contents of {name!r} arrived with SHA-256 {arrived}, but {expected} was announced: "
            "they changed or were damaged on the way, send them again",
            status=400,
        )
