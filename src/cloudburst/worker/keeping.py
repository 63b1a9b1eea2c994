"""What a node keeps of payloads and environments: as much as its limit allows, what was used last.

When something was used is its directory's modification time, so that it outlives the worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

from cloudburst import archive

log = logging.getLogger(__name__)

TRASH = ".trash-"
"""What names start with of what is being removed: half of an environment must not look like a whole one."""

_TOUCH_S = 60.0
"""Use is written down so often."""

_OLD_S = 7 * 24 * 3600.0
"""Logs of builds that failed stay for so long."""


class Keeping:
    """The directories that take room on this node, and the choice of those that go.

    ``measure`` and ``clear`` take long and belong into threads. ``evict`` is quick: who calls it sees to it
    that nobody begins to use what it takes away.
    """

    def __init__(self, payloads_dir: Path, environments_dir: Path, limit_bytes: int) -> None:
        self._payloads_dir = payloads_dir
        self._environments_dir = environments_dir
        self.cache = environments_dir / "cache"
        """Of the installing tools; the first to go, since they can do without."""
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._bytes: dict[Path, int] = {}
        self._used: dict[Path, float] = {}
        self._touched: dict[Path, float] = {}

    @property
    def bytes_kept(self) -> int:
        """What all of it takes, as far as it has been measured."""
        with self._lock:
            return sum(self._bytes.values())

    @property
    def has_room(self) -> bool:
        """Whether there is less than the limit, as far as it has been measured."""
        return self.bytes_kept < self._limit

    def measure(self, *paths: Path) -> None:
        """Take note of what is at ``paths``; of all that is there if none is given."""
        for path in paths or [*_kept(self._payloads_dir), *_kept(self._environments_dir), self.cache]:
            if not path.exists():
                continue
            used = 0.0 if path == self.cache else path.stat().st_mtime
            size = _size(path)
            with self._lock:
                if path.exists():
                    self._bytes[path] = size
                    self._used[path] = max(used, self._used.get(path, 0.0))

    def evict(self, in_use: Collection[Path], *, all_of_it: bool = False) -> set[Path]:
        """Move what was used least recently to the trash, down to the limit or to nothing; what that was."""
        self._note_use(in_use)
        limit = 0 if all_of_it else self._limit
        gone: set[Path] = set()
        with self._lock:
            total = sum(self._bytes.values())
            for path in sorted(self._bytes, key=lambda path: self._used[path]):
                if total <= limit:
                    break
                if path in in_use:
                    continue
                size = self._bytes.pop(path)
                _to_trash(path)
                log.info("%s is removed: %.1f MB of %.1f MB", path, size / 1e6, total / 1e6)
                total -= size
                gone.add(path)
        return gone

    def clear(self) -> None:
        """Empty the trash."""
        for directory in (self._payloads_dir, self._environments_dir):
            for path in directory.glob(f"{TRASH}*"):
                _remove(path)

    def leftovers(self) -> None:
        """Move to the trash what a killed worker has left on its way, before this one begins."""
        now = time.time()
        for directory in (self._payloads_dir, self._environments_dir):
            for path in directory.iterdir():
                if _is_leftover(path, now):
                    log.info("removing what was left in %s", path)
                    _to_trash(path)

    def _note_use(self, in_use: Collection[Path]) -> None:
        now = time.time()
        with self._lock:
            for path in in_use:
                if path in self._bytes:
                    self._used[path] = now
                    if now - self._touched.get(path, 0.0) > _TOUCH_S:
                        self._touched[path] = now
                        with contextlib.suppress(FileNotFoundError):
                            os.utime(path)


def _kept(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if len(path.name) == 64 and path.is_dir():  # a digest
            yield path


def _size(path: Path) -> int:
    """What the files below ``path`` take on the disk; those with several names are shared in equal parts."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                status = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                total += status.st_blocks * 512 // status.st_nlink
    return total


def _is_leftover(path: Path, now: float) -> bool:
    """Whether a killed worker has left it. Builds clean up themselves: their tools may still be at work."""
    if path.name.startswith(".") or path.suffix == ".zip":
        return True
    is_log = path.suffix == ".log" and not path.with_suffix("").exists()
    return is_log and now - path.stat().st_mtime > _OLD_S


def _to_trash(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(f"{TRASH}{uuid.uuid4().hex}"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(OSError):
            archive.unprotect(path)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
