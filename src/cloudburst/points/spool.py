"""Points that the database has not taken yet, on disk, in the order in which they came."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from cloudburst.points.batch import first_batch

log = logging.getLogger(__name__)

SUFFIX = ".lp"
REFUSED = "refused.txt"
"""Lines that the database will never take, kept for whoever wants to know."""

REFUSED_LIMIT_BYTES = 16 << 20


class Spool:
    """A directory of numbered files of line protocol; what ``add`` has returned from survives a power cut.

    One thread adds, another takes away.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for unfinished in directory.glob("*.tmp"):
            unfinished.unlink()
        names = self._names()
        self._next = int(Path(names[-1]).stem) + 1 if names else 0
        self._lock = threading.Lock()
        self._bytes = sum((directory / name).stat().st_size for name in names)
        self._count = len(names)

    def __bool__(self) -> bool:
        return self._count > 0

    def __str__(self) -> str:
        return f"{self._bytes / 1e6:.1f} MB of points in {self._directory}"

    def has_room(self, size_bytes: int) -> bool:
        """Whether so much more is within the limit."""
        return self._bytes + size_bytes <= self._limit_bytes

    def add(self, lines: bytes) -> None:
        """Put lines at the end. Raises OSError, such as for a full disk; then nothing was added."""
        target = self._directory / f"{self._next:012d}{SUFFIX}"
        temporary = target.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            with self._lock:
                temporary.rename(target)
                self._sync()
                self._bytes += len(lines)
                self._count += 1
        except OSError:
            temporary.unlink(missing_ok=True)
            target.unlink(missing_ok=True)
            raise
        self._next += 1

    def first(self) -> list[tuple[Path, bytes]]:
        """The oldest files that together make a batch, with their lines; empty when there is none."""
        with self._lock:
            paths = [self._directory / name for name in self._names()]
            if not paths:  # somebody has deleted them
                self._bytes = self._count = 0
        contents = first_batch(path.read_bytes() for path in paths)
        return list(zip(paths, contents, strict=False))

    def remove(self, path: Path) -> None:
        """Forget a file: its lines are in the database."""
        with self._lock:
            self._bytes -= path.stat().st_size
            path.unlink()
            self._count -= 1

    def refuse(self, lines: bytes, reason: str) -> None:
        """Put lines aside that the database will never take; only the first so many are kept."""
        path = self._directory / REFUSED
        log.error("points: the database refuses spooled points for good, see %s: %s", path, reason)
        with path.open("ab") as file:
            if file.tell() + len(lines) <= REFUSED_LIMIT_BYTES:
                file.write(f"# {reason}\n".encode() + lines.rstrip(b"\n") + b"\n")

    def _names(self) -> list[str]:
        names = (Path(entry.name) for entry in os.scandir(self._directory))
        return sorted(name.name for name in names if name.suffix == SUFFIX and name.stem.isdecimal())

    def _sync(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
