"""Packed environments in the file store: an archive each, and a record with its SHA-256.

The archive is stored first and the record after it: where there is a record, there is an archive. Should two
workers store the same environment (one was paused for longer than its lease), the second replaces what the
first has stored by something as good; who fetches between its archive and its record finds that they do not
belong together, and looks again.
"""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cloudburst import names
from cloudburst.errors import BuildError, FileStoreError
from cloudburst.filestore.client import FileStore
from cloudburst.worker import environment, packing
from cloudburst.worker.arriving import Arriving
from cloudburst.worker.environment import Environment, Recipe
from cloudburst.worker.once import out_of_reach
from cloudburst.worker.room import Room, is_full
from cloudburst.worker.tools import BuildStopped, Tools

log = logging.getLogger(__name__)

DRAFT = ".draft-"
"""What names start with, beside the environments, of what is on its way in or out."""

_REPLACED_S = 2.0
"""An archive that does not belong to its record may just be being replaced."""


@dataclass(frozen=True)
class Record:
    """What the file store knows about a packed environment."""

    sha256: str
    """Of the archive."""
    archive_bytes: int
    unpacked_bytes: int
    python_version: str
    platform: str
    built_s: float
    node: str
    """Where it was built."""
    cloudburst: str
    """Version of the worker that has built it."""

    @classmethod
    def from_json(cls, text: bytes) -> Record:
        """Parse what ``to_json`` wrote (ValueError, TypeError)."""
        return cls(**json.loads(text))

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


class Stored:
    """The environments that are in the file store, as the node with ``environments_dir`` uses them."""

    def __init__(self, store: FileStore, environments_dir: Path, node: str) -> None:
        self._store = store
        self._dir = environments_dir
        self._node = node
        self._room = Room(environments_dir, node)
        self._known: set[str] = set()
        """Digests of environments that are there."""
        self._rejected: set[str] = set()
        """SHA-256 of archives that could not be used."""

    def has(self, digest: str) -> bool:
        """Whether it is there; asked once. FileStoreError when the file store is out of reach."""
        if digest not in self._known and self._record(digest) is not None:
            self._known.add(digest)
        return digest in self._known

    def fetch(self, recipe: Recipe, tools: Tools) -> Environment | None:
        """What another worker has stored, ready on this node; None where there is nothing that can be used.

        FileStoreError when the file store is out of reach, NoRoomError when this node's disk is full.
        """
        record = self._record(recipe.digest)
        while record is not None and record.sha256 not in self._rejected:
            found = self._fetch(record, recipe, tools)
            if found is not None:
                self._known.add(recipe.digest)
                return found
            self._rejected.add(record.sha256)
            if tools.stop.wait(_REPLACED_S):
                raise BuildStopped("the worker shuts down")
            record = self._record(recipe.digest)
        return None

    def put(self, built: Environment) -> None:
        """Pack it and store it. Raises FileStoreError and OSError."""
        with self._draft("archive") as archive:
            unpacked_bytes = packing.pack(built.directory, archive)
            sha256 = self._store.put(names.stored_environment(built.digest), archive)
            record = Record(
                sha256,
                archive.stat().st_size,
                unpacked_bytes,
                built.python_version,
                built.platform,
                built.built_s,
                self._node,
                names.VERSION,
            )
        self._store.put(names.stored_environment_record(built.digest), record.to_json())
        self._known.add(built.digest)
        log.info("environment %.12s is in the file store", built.digest)

    def _fetch(self, record: Record, recipe: Recipe, tools: Tools) -> Environment | None:
        needed = record.archive_bytes + record.unpacked_bytes
        self._room.check(needed)
        with self._draft("archive") as archive, self._draft("tree") as unpacked:
            try:
                tools.note(f"fetching the environment ({record.archive_bytes / 1e6:.1f} MB)")
                self._unpack(names.stored_environment(recipe.digest), record, archive, unpacked, tools)
                return environment.adopt(unpacked, recipe, self._dir, tools)
            except (FileStoreError, BuildError, OSError) as error:
                if is_full(error) or is_full(error.__cause__):
                    raise self._room.error(needed) from error
                if isinstance(error, FileStoreError) and out_of_reach(error):
                    raise
                log.warning("the stored environment %.12s cannot be used: %s", recipe.digest, error)
        return None

    def _unpack(self, name: str, record: Record, archive: Path, unpacked: Path, tools: Tools) -> None:
        """Fetch and unpack at the same time; whatever is wrong with the archive is raised in the end."""
        growing = archive.with_suffix(".part")
        arriving = Arriving(growing)
        with ThreadPoolExecutor(1, "unpack") as pool:
            unpacking = pool.submit(packing.unpack, arriving, unpacked)
            try:
                self._store.get(name, archive, expect_sha256=record.sha256, growing=growing)
            finally:
                arriving.end()
            tools.note("unpacking the environment")
            unpacking.result()

    def _record(self, digest: str) -> Record | None:
        try:
            text = self._store.read(names.stored_environment_record(digest))
            return None if text is None else Record.from_json(text)
        except FileStoreError as error:
            if out_of_reach(error):
                raise
            log.warning("%s", error)
        except (ValueError, TypeError) as error:
            log.warning("the record of the stored environment %.12s is damaged: %s", digest, error)
        return None

    @contextmanager
    def _draft(self, kind: str) -> Iterator[Path]:
        """A path beside the environments, at which nothing is left afterwards."""
        path = self._dir / f"{DRAFT}{uuid.uuid4().hex}.{kind}"
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
