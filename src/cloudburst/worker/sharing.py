"""Environments that one worker builds and the others fetch, by way of the file store.

The archive is stored first and its record, with the archive's SHA-256, after it: where there is a record, there
is an archive. Should two workers store the same environment (one was paused for longer than its lease), the
second replaces what the first has stored by something as good; who fetches between its archive and its record
finds that they do not belong together, and looks again.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import redis

from cloudburst import names
from cloudburst.errors import BuildError, FileStoreError, NoRoomError
from cloudburst.filestore.client import FileStore
from cloudburst.rqwire.builds import Builds, Lease
from cloudburst.worker import environment, packing
from cloudburst.worker.environment import Environment, Recipe
from cloudburst.worker.once import Once, out_of_reach
from cloudburst.worker.tools import BuildStopped, Tools

log = logging.getLogger(__name__)

DRAFT = ".draft-"
"""What names start with, beside the environments, of what is on its way in or out."""

_REPLACED_S = 2.0
"""An archive that does not belong to its record may just be being replaced."""


_FULL = ("No space left on device", "Disk quota exceeded")
"""What tools say on a full disk."""


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


class Sharing:
    """Gives every recipe its environment on this node, built here only if no other worker has built it."""

    def __init__(
        self, store: FileStore, builds: Builds, environments_dir: Path, *, node: str, patience_s: float
    ) -> None:
        self._store = store
        self._builds = builds
        self._dir = environments_dir
        self._node = node
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._packing: set[str] = set()
        self._shared: set[str] = set()
        """Environments that are in the file store, as far as is known."""
        self._rejected: set[str] = set()
        """SHA-256 of archives that could not be used."""

    def environment(self, recipe: Recipe, tools: Tools) -> Environment:
        """Where it is on this node already, neither Redis nor the file store is waited for.

        Raises BuildError, also if another worker found that it cannot be built, and BuildStopped.
        """
        here = environment.complete(self._dir, recipe.digest, recipe.interpreter)
        if here is not None:
            self._aside(lambda: self._share_if_missing(here))
            return here
        once = Once(
            self._builds,
            self._patience_s,
            "the environment",
            find=lambda: self._fetch(recipe, tools),
            make=lambda: self._build(recipe, tools),
            share=lambda built, lease: self._aside(lambda: self._share(built, lease)),
        )
        return once.get(_key(recipe.digest), tools)

    def packing(self) -> set[str]:
        """Digests of the environments that are being packed at this moment."""
        with self._lock:
            return set(self._packing)

    # -- building --------------------------------------------------------------------------------------

    def _build(self, recipe: Recipe, tools: Tools) -> Environment:
        try:
            with self._room(0):
                return environment.build(recipe, self._dir, tools)
        except BuildError as error:
            if any(words in error.tail for words in _FULL):
                raise NoRoomError(self._no_room(0), error.tail) from error
            raise

    # -- fetching --------------------------------------------------------------------------------------

    def _fetch(self, recipe: Recipe, tools: Tools) -> Environment | None:
        """What another worker has stored; None where there is none, or it cannot be used."""
        record = self._record(recipe.digest)
        while record is not None and record.sha256 not in self._rejected:
            found = self._fetch_recorded(record, recipe, tools)
            if found is not None:
                self._note_shared(recipe.digest)
                return found
            self._rejected.add(record.sha256)
            if tools.stop.wait(_REPLACED_S):
                raise BuildStopped("the worker shuts down")
            record = self._record(recipe.digest)
        return None

    def _fetch_recorded(self, record: Record, recipe: Recipe, tools: Tools) -> Environment | None:
        needed = record.archive_bytes + record.unpacked_bytes
        if shutil.disk_usage(self._dir).free < needed:
            raise NoRoomError(self._no_room(needed))
        with self._room(needed), self._draft("archive") as archive, self._draft("tree") as unpacked:
            try:
                tools.note(f"fetching the environment ({record.archive_bytes / 1e6:.1f} MB)")
                name = names.stored_environment(recipe.digest)
                self._store.get(name, archive, expect_sha256=record.sha256)
                tools.note("unpacking the environment")
                packing.unpack(archive, unpacked)
                return environment.adopt(unpacked, recipe, self._dir, tools)
            except (FileStoreError, BuildError) as error:
                if isinstance(error, FileStoreError) and out_of_reach(error):
                    raise
                if isinstance(error.__cause__, OSError):
                    raise error.__cause__ from error
                log.warning("the stored environment %.12s cannot be used: %s", recipe.digest, error)
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

    @contextmanager
    def _room(self, needed: int) -> Iterator[None]:
        """Turn a full disk into a NoRoomError that says what to do."""
        try:
            yield
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise NoRoomError(self._no_room(needed)) from error

    def _no_room(self, needed: int) -> str:
        size = f"needs {needed / 1e6:,.1f} MB" if needed else "does not fit"
        free = shutil.disk_usage(self._dir).free / 1e6
        return (
            f"no room for the environment on {self._node}: it {size} on the disk of {self._dir}, where "
            f"{free:,.1f} MB are free: make room there, or give that worker a CLOUDBURST_STATE_DIR elsewhere"
        )

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

    # -- storing ---------------------------------------------------------------------------------------

    def _share(self, built: Environment, lease: Lease | None) -> None:
        """Store it, and end the lease; jobs run in it meanwhile."""
        with self._lock:
            self._packing.add(built.digest)
        try:
            if not (self._is_shared(built.digest) and (lease is None or lease.lost)):
                self._store_packed(built)
        except (FileStoreError, OSError) as error:
            log.warning("environment %.12s stays on this node: %s", built.digest, error)
            if lease is not None:
                lease.unshared()
        else:
            if lease is not None:
                lease.release()
        finally:
            with self._lock:
                self._packing.discard(built.digest)

    def _store_packed(self, built: Environment) -> None:
        with self._draft("tar.zst") as archive:
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
        self._note_shared(built.digest)
        log.info("environment %.12s is in the file store", built.digest)

    def _share_if_missing(self, here: Environment) -> None:
        """Make good that it was not stored when it was built: this worker was killed, or nobody answered."""
        try:
            if self._is_shared(here.digest):
                return
            lease = self._builds.take(_key(here.digest))
            if isinstance(lease, Lease):
                self._share(here, lease)
        except (FileStoreError, redis.RedisError) as error:
            log.info("environment %.12s may not be in the file store: %s", here.digest, error)

    def _is_shared(self, digest: str) -> bool:
        with self._lock:
            if digest in self._shared:
                return True
        if self._record(digest) is None:
            return False
        self._note_shared(digest)
        return True

    def _note_shared(self, digest: str) -> None:
        with self._lock:
            self._shared.add(digest)

    @staticmethod
    def _aside(target: Callable[[], None]) -> None:
        threading.Thread(target=target, name="share", daemon=True).start()


def _key(digest: str) -> str:
    return f"environment-{digest}"
