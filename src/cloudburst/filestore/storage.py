"""The files of one file store, as plain files below one directory."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from cloudburst import names
from cloudburst.errors import FileStoreError, StackError
from cloudburst.filestore import filenames
from cloudburst.filestore.digests import Digests
from cloudburst.filestore.incoming import Incoming
from cloudburst.filestore.listing import StoredFile

HIDDEN = ".store"
"""What is not a stored file lives in here; no file's name can start with a dot."""


class Storage:
    """Stores, finds, lists and removes files below ``root``, which belongs to one process at a time.

    ``limit_bytes`` is the size of the largest file. Raises StackError when another file store has ``root``.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        hidden = root / HIDDEN
        hidden.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self.limit_bytes = limit_bytes
        self._lock = _locked(hidden / "lock", root)
        self._incoming = hidden / "incoming"
        # What a killed process left behind can belong to no request any more.
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir()
        self.partials = hidden / "partial"
        self.partials.mkdir(exist_ok=True)
        self.digests = Digests(hidden / "sha256")

    def open(self, name: str) -> BinaryIO:
        """The file of that name, to be read; FileStoreError 400 for a bad name, 404 if there is none."""
        path = self._path(name)
        try:
            # Not blocking: a FIFO that somebody put here must not stop the file store.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise _not_found(name) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _not_found(name)
        return os.fdopen(descriptor, "rb", buffering=0)

    @asynccontextmanager
    async def incoming(self) -> AsyncIterator[Incoming]:
        """A file on its way in, of which nothing is left afterwards unless it was stored."""
        incoming = Incoming(self._incoming / uuid.uuid4().hex, self.limit_bytes)
        try:
            yield incoming
        finally:
            await incoming.close()
            incoming.path.unlink(missing_ok=True)

    def check_target(self, name: str) -> Path:
        """The path that a file of that name will have; FileStoreError 400 if it cannot be stored."""
        path = self._path(name)
        if path.is_dir():
            raise FileStoreError(f"{name!r} is a folder of other files: choose another name", status=400)
        for folder in path.relative_to(self.root).parents:
            if (self.root / folder).is_file():
                raise FileStoreError(f"{name!r}: {str(folder)!r} is a file, not a folder", status=400)
        return path

    def store(self, incoming: Incoming, name: str, sha256: str) -> None:
        """Make ``incoming`` the file of that name, in one step that survives a power failure."""
        target = self.check_target(name)
        linked = name == names.PAYLOAD_NAME and self._keep_version(incoming, names.stored_payload(sha256))
        _into_folder(target, lambda: incoming.path.replace(target))
        _sync_directory(target.parent)
        self.digests.remember(name, incoming.stat(), sha256)
        if linked:
            self.digests.remember(names.stored_payload(sha256), incoming.stat(), sha256)

    def _keep_version(self, incoming: Incoming, name: str) -> bool:
        """Keep ``incoming`` under a name that outlives the next worker.zip; False if it is there already.

        First, so that whoever is told the digest of the current one finds it by that digest.
        """
        version = self.check_target(name)
        try:
            _into_folder(version, lambda: os.link(incoming.path, version))
        except FileExistsError:
            return False
        _sync_directory(version.parent)
        return True

    def delete(self, name: str) -> None:
        """Remove the file of that name and folders that get empty; FileStoreError 404 if there is none."""
        path = self._path(name)
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
            if path.is_file():
                raise
            raise _not_found(name) from None
        self.digests.forget(name)
        for folder in path.relative_to(self.root).parents[:-1]:
            try:
                (self.root / folder).rmdir()
            except OSError:
                break  # not empty: it stays
        _sync_directory(self.root)

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """The files whose names start with ``prefix``, folder by folder."""
        folder = prefix.rpartition("/")[0]
        for path in _files_below(self._path(folder) if folder else self.root):
            name = path.relative_to(self.root).as_posix()
            if not name.startswith(prefix) or not filenames.is_safe(name):
                continue
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue  # removed while we were listing
            if stat.S_ISREG(status.st_mode):
                yield StoredFile(name, status.st_size, status.st_mtime)

    def _path(self, name: str) -> Path:
        path = self.root / filenames.checked(name)
        # A link could lead to any file of the machine, so links are not followed.
        if os.path.realpath(path) != str(path):
            raise FileStoreError(f"{name!r} leads through a symbolic link", status=400)
        return path


def _into_folder(target: Path, place: Callable[[], object]) -> None:
    """Call ``place``, which makes ``target``, with its folder there."""
    while True:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            place()
            return
        except FileNotFoundError:
            # A delete may have removed the folder between the two steps; otherwise it is a real error.
            if target.parent.is_dir():
                raise


def _files_below(top: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(top):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files))


def _not_found(name: str) -> FileStoreError:
    return FileStoreError(f"there is no file {name!r} in the file store", status=404)


def _locked(path: Path, root: Path) -> BinaryIO:
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StackError(
            f"another file store is already running on {root}: stop it, or set CLOUDBURST_FILES_DIR"
        ) from None
    return lock


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
