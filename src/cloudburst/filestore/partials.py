"""Resumable uploads: what has arrived of files that are not complete yet.

The protocol is described in ``cloudburst.filestore``.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cloudburst.errors import FileStoreError
from cloudburst.filestore.blocks import hashed, in_thread
from cloudburst.filestore.headers import Part
from cloudburst.filestore.incoming import Bytes, Incoming, check_contents
from cloudburst.filestore.storage import Storage

if TYPE_CHECKING:
    from _hashlib import HASH as Hasher

log = logging.getLogger(__name__)

KEPT_S = 24 * 3600.0
"""An upload to which nothing was added for so long is given up."""


class WrongOffset(FileStoreError):
    """A request that does not go on where the upload stands (status 409); ``offset`` says where that is."""

    def __init__(self, name: str, offset: int) -> None:
        super().__init__(f"the upload of {name!r} stands at byte {offset}: go on there", status=409)
        self.offset = offset


class Partial:
    """One resumable upload while requests are at work on it."""

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.owner: object | None = None
        """The latest request; only this one may add to the upload."""
        self.completing = False


class Partials:
    """The resumable uploads of one ``storage``; they survive a restart."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._active: dict[Path, Partial] = {}
        self._hashers: dict[Path, tuple[int, Hasher]] = {}
        """For uploads without a request: the size that the hasher has seen. Saves reading it all again."""
        self._give_up_old()

    def offset(self, name: str, sha256: str) -> int:
        """How many bytes of the upload are here."""
        path = self._path(name, sha256)
        active = self._active.get(path)
        return active.incoming.size if active else _size(path)

    async def receive(self, name: str, sha256: str, part: Part, pieces: AsyncIterator[Bytes]) -> int:
        """Add ``pieces``, which are ``part`` of the upload; store the file if they are the last.

        Returns how many bytes are here then. Raises FileStoreError: 409 if the part does not go on
        where the upload stands, 400 if the complete contents differ from ``sha256``.
        """
        async with self._owned(name, sha256, part.start) as partial:
            incoming, owner = partial.incoming, partial.owner
            async for piece in pieces:
                if partial.owner is not owner:
                    break
                if incoming.size + len(piece) > part.stop:
                    raise FileStoreError(f"the body is longer than Content-Range says ({part})", status=400)
                await incoming.write(piece)
            if partial.owner is not owner:
                raise WrongOffset(name, incoming.size)
            if incoming.size == part.total:
                partial.completing = True
                await self._complete(name, sha256, incoming)
            return incoming.size

    async def _complete(self, name: str, sha256: str, incoming: Incoming) -> None:
        arrived = await incoming.finish()
        if arrived != sha256:
            incoming.path.unlink()
        check_contents(name, arrived, sha256)
        await in_thread(self._storage.store, incoming, name, sha256)

    @asynccontextmanager
    async def _owned(self, name: str, sha256: str, start: int) -> AsyncIterator[Partial]:
        """The upload, if it stands at ``start``; what arrives is kept however the request ends."""
        path = self._path(name, sha256)
        if path not in self._active:
            self._give_up_old()
            incoming = await self._reopened(path)
            if path in self._active:
                await incoming.close()  # another request was faster
            else:
                self._active[path] = Partial(incoming)
        partial = self._active[path]
        if partial.incoming.size != start or partial.completing:
            if partial.owner is None:
                await self._release(path, partial)
            raise WrongOffset(name, partial.incoming.size)
        owner = partial.owner = object()
        try:
            yield partial
        finally:
            if partial.owner is owner:
                await self._release(path, partial)

    async def _reopened(self, path: Path) -> Incoming:
        while True:
            size = _size(path)
            seen, hasher = self._hashers.pop(path, (0, hashlib.sha256()))
            if seen != size:
                log.info("going on with an upload from before a restart: reading its %d bytes", size)
                with path.open("rb") as file:
                    hasher = await hashed(file)
            # Another request may have added to it, or completed it, while this one was reading.
            if _size(path) == size:
                return Incoming(path, self._storage.limit_bytes, size=size, hasher=hasher)

    async def _release(self, path: Path, partial: Partial) -> None:
        """Close the upload unless another request takes it over meanwhile; what arrived is on disk then."""
        incoming, owner = partial.incoming, partial.owner
        try:
            await incoming.flush()
            written = True
        except (OSError, FileStoreError) as error:
            log.warning("giving up a resumable upload at %d bytes: %s", incoming.size, error)
            written = False
        if partial.owner is not owner:
            return
        del self._active[path]
        if not written or incoming.size == 0:
            path.unlink(missing_ok=True)
        elif _size(path) == incoming.size:
            self._hashers[path] = (incoming.size, incoming.hasher)
        await incoming.close()

    def _give_up_old(self) -> None:
        for path in self._storage.partials.iterdir():
            if path not in self._active and 0 < _changed_at(path) < time.time() - KEPT_S:
                log.info("giving up a resumable upload to which nothing was added for a day")
                path.unlink(missing_ok=True)
                self._hashers.pop(path, None)

    def _path(self, name: str, sha256: str) -> Path:
        return self._storage.partials / hashlib.sha256(f"{name}\n{sha256}".encode()).hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _changed_at(path: Path) -> float:
    """Unix time; 0 if it is complete, and gone, meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
