"""The lock of a payload that brings none: made by one worker, used by all, kept in the file store."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from cloudburst import names
from cloudburst.errors import FileStoreError, PayloadError
from cloudburst.filestore.client import FileStore
from cloudburst.rqwire.builds import Builds, Lease
from cloudburst.worker import dependencies
from cloudburst.worker.dependencies import Lock, Pipfile
from cloudburst.worker.interpreters import Interpreter
from cloudburst.worker.once import Once, out_of_reach
from cloudburst.worker.tools import Tools

log = logging.getLogger(__name__)


class Locking:
    """Gives every payload the lock that all workers use for it.

    A payload's lock stays what it is. One that has none yet gets that of its Pipfile, so that a change of the
    code alone does not change versions.
    """

    def __init__(self, store: FileStore, builds: Builds, locks_dir: Path, *, patience_s: float) -> None:
        self._store = store
        self._builds = builds
        self._dir = locks_dir
        self._patience_s = patience_s

    def lock(self, payload: str, pipfile: Pipfile, interpreter: Interpreter, tools: Tools) -> Lock:
        """The lock of the payload with that digest. Raises BuildError and BuildStopped."""
        own = dependencies.own_lock(pipfile, self._dir, tools)
        if own is not None:
            return own
        here = self._dir / f"{payload}.used"
        kept = Lock.kept(here)
        if kept is not None:
            return kept
        key = dependencies.lock_key(pipfile, interpreter)

        def keep(lock: Lock) -> Lock:
            _write(here, lock)
            return lock

        def find() -> Lock | None:
            found = self._find(payload, key)
            return found and keep(found)

        def make() -> Lock:
            return dependencies.local_lock(pipfile, interpreter, self._dir, tools)

        def share(lock: Lock, lease: Lease | None) -> None:
            if self._share(payload, key, lock, lease):
                keep(lock)

        once = Once(self._builds, self._patience_s, "the Pipfile.lock", find=find, make=make, share=share)
        return once.get(f"lock-{key}", tools)

    def _find(self, payload: str, key: str) -> Lock | None:
        found = self._read(names.stored_lock(payload))
        if found is None:
            found = self._read(names.stored_pipfile_lock(key))
            if found is not None:
                self._store.put(names.stored_lock(payload), found.text.encode())
        return found

    def _read(self, name: str) -> Lock | None:
        try:
            contents = self._store.read(name)
            return None if contents is None else Lock.stored(contents)
        except FileStoreError as error:
            if out_of_reach(error):
                raise
            log.warning("%s", error)
            return None
        except PayloadError as error:
            log.warning("%s in the file store is damaged, making it again: %s", name, error)
            return None

    def _share(self, payload: str, key: str, lock: Lock, lease: Lease | None) -> bool:
        """Store it, and end the lease; whether others have it now."""
        try:
            self._store.put(names.stored_pipfile_lock(key), lock.text.encode())
            self._store.put(names.stored_lock(payload), lock.text.encode())
        except FileStoreError as error:
            log.warning("the Pipfile.lock stays on this node: %s", error)
            if lease is not None:
                lease.unshared()
            return False
        if lease is not None:
            lease.release()
        return True


def _write(path: Path, lock: Lock) -> None:
    """As a whole, in a draft of its own: several ensembles may want the same lock at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=".draft-", delete=False, encoding="utf-8"
    ) as draft:
        draft.write(lock.text)
    os.replace(draft.name, path)
