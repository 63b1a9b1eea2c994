"""The files of payloads on this node: fetched by their digests, complete or not there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from cloudburst import archive, names
from cloudburst.errors import FileStoreError
from cloudburst.filestore.client import FileStore
from cloudburst.worker.once import out_of_reach
from cloudburst.worker.room import Room, is_full
from cloudburst.worker.tools import BuildStopped

log = logging.getLogger(__name__)

_AGAIN_S = 2.0


class Payloads:
    """The payloads under ``directory``."""

    def __init__(self, store: FileStore, directory: Path, room: Room, *, protect: bool) -> None:
        """``protect`` them from this user, as whom jobs run."""
        self._store = store
        self._dir = directory
        self._room = room
        self._protect = protect

    def fetched(self, digest: str, note: Callable[[str], None], stop: threading.Event) -> Path:
        """Where the files of that payload are; waits for as long as the file store is out of reach.

        Raises FileStoreError, PayloadError and NoRoomError, and BuildStopped after ``stop`` was set.
        """
        directory = self._dir / digest
        if not directory.exists():
            note("fetching the payload")
            zipped = directory.with_suffix(".zip")
            try:
                self._download(digest, zipped, note, stop)
                with self._room.explained("the payload"):
                    archive.extract(zipped, directory)
            finally:
                zipped.unlink(missing_ok=True)
        if self._protect:
            archive.protect(directory)
        return directory

    def _download(
        self, digest: str, target: Path, note: Callable[[str], None], stop: threading.Event
    ) -> None:
        while True:
            try:
                self._store.get(self._name(digest), target, expect_sha256=digest)
                return
            except FileStoreError as error:
                if is_full(error.__cause__):
                    raise self._room.error(what="the payload") from error
                if not out_of_reach(error):
                    raise
                log.warning("cannot fetch payload %.12s, trying again: %s", digest, error)
                note("the file store is out of reach; waiting")
            if stop.wait(_AGAIN_S):
                raise BuildStopped("the worker shuts down")

    def _name(self, digest: str) -> str:
        """Where clients put payloads, else the current worker.zip if it is the one."""
        name = names.stored_payload(digest)
        if self._store.etag(name) is None and self._store.etag(names.PAYLOAD_NAME) == digest:
            return names.PAYLOAD_NAME
        return name
