"""The SHA-256 of stored files, remembered across restarts and never that of older contents."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from pathlib import Path
from typing import BinaryIO

from cloudburst.filestore.blocks import hashed, in_thread

log = logging.getLogger(__name__)


class Digests:
    """One small record per file below ``directory``: the digest, and the state of the file it was made from.

    The state is the inode with its times of last change, so a file that was replaced or edited by hand,
    even one whose modification time was set back, does not match its record and is read again.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    async def of(self, name: str, file: BinaryIO) -> str:
        """SHA-256 of the open ``file`` that is stored as ``name``; reads all of it if that is not known."""
        before = os.fstat(file.fileno())
        known = self._recall(name, before)
        if known:
            return known
        log.info("%s was not stored through this file store: reading it for its SHA-256", name)
        sha256 = (await hashed(file)).hexdigest()
        if _state(os.fstat(file.fileno())) == _state(before):
            await in_thread(self.remember, name, before, sha256)
        return sha256

    def remember(self, name: str, status: os.stat_result, sha256: str) -> None:
        """Record the digest of the file ``name``, whose state is ``status``."""
        path = self._path(name)
        temporary = path.with_name(f"{uuid.uuid4().hex}.new")
        try:
            temporary.write_text(json.dumps({"sha256": sha256, "state": _state(status)}), encoding="ascii")
            temporary.replace(path)
        except OSError as error:
            # The file itself is stored. Without a record its digest costs reading it, but stays right.
            log.warning("cannot record the SHA-256 of %s: %s", name, error)
            temporary.unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Remove the record of ``name``, if there is one."""
        self._path(name).unlink(missing_ok=True)

    def _recall(self, name: str, status: os.stat_result) -> str:
        try:
            record = json.loads(self._path(name).read_text(encoding="ascii"))
            return str(record["sha256"]) if record["state"] == _state(status) else ""
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return ""  # never recorded, or cut short by a power failure

    def _path(self, name: str) -> Path:
        # Flat, so that the record of a file "a" is never in the way of one of "a/b".
        return self._directory / hashlib.sha256(name.encode()).hexdigest()


def _state(status: os.stat_result) -> list[int]:
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
