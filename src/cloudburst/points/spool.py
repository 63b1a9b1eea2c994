"""Points that the database has not taken yet, on disk, in the order in which they came."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cloudburst.log import Repeats
from cloudburst.points.batch import first_batch
from cloudburst.points.parse import are_whole, whole_lines

log = logging.getLogger(__name__)

SUFFIX = ".lp"
REFUSED = "refused.txt"
"""Lines that the database will never take, kept for whoever wants to know."""

REFUSED_LIMIT_BYTES = 16 << 20

COUNTED_BYTES = 16 << 20
"""Of what an earlier worker has left, the lines of so much are counted; those of the rest are estimated."""


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
        self._next = _number(names[-1]) + 1 if names else 0
        self._lock = threading.Lock()
        self._repeats = Repeats()
        self._bytes = sum((directory / name).stat().st_size for name in names)
        self._count = len(names)
        self._lines = self._counted(names)
        self._since = self._changed_at(names[0]) if names else 0.0

    def __bool__(self) -> bool:
        return self._count > 0

    def __str__(self) -> str:
        return f"{self._bytes / 1e6:.1f} MB of points in {self._directory}"

    def waiting(self) -> tuple[int, float]:
        """About how many points are there, and since when there are any (Unix time); 0 points: none."""
        with self._lock:
            return sum(self._lines.values()) if self._count else 0, self._since

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
                self._since = self._since if self._count else time.time()
                self._count += 1
                self._lines[target.name] = lines.count(b"\n")
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
                self._lines.clear()
        files: list[Path] = []
        contents = first_batch(self._read(paths, files))
        return list(zip(files, contents, strict=False))

    def _read(self, paths: list[Path], files: list[Path]) -> Iterator[bytes]:
        """The contents of those that can be read, which go into ``files``; others are put aside."""
        for path in paths:
            try:
                content = path.read_bytes()
            except OSError as error:
                log.error("points: %s is put aside, it cannot be read: %s", path, error)
                self.remove(path, aside=True)
                continue
            files.append(path)
            yield self._mended(path, content)

    def _mended(self, path: Path, content: bytes) -> bytes:
        """Its whole lines, all that it holds from now on: others would run into those of the next file."""
        if are_whole(content.decode("utf-8", "surrogateescape")):
            return content
        lines = [(line, are_whole(line.decode("utf-8", "replace"))) for line in whole_lines(content)]
        self.refuse(b"".join(line for line, whole in lines if not whole), f"{path.name} is damaged")
        mended = b"".join(line for line, whole in lines if whole)
        with path.open("r+b") as file:  # in place: that needs no room
            file.write(mended)
            file.truncate()
        with self._lock:
            self._bytes -= len(content) - len(mended)
        return mended

    def remove(self, path: Path, *, aside: bool = False) -> None:
        """Forget a file: its lines are in the database, or cannot be read and are left ``aside``."""
        with self._lock:
            self._bytes -= path.stat().st_size
            if aside:
                path.rename(path.with_suffix(".damaged"))
            else:
                path.unlink()
            self._count -= 1
            self._lines.pop(path.name, None)

    def refuse(self, lines: bytes, reason: str) -> None:
        """Put lines aside that the database will never take; only the first so many are kept."""
        path = self._directory / REFUSED
        if times := self._repeats.worth_saying("refused"):
            text = "points: spooled points are refused for good (%s so far), see %s: %s"
            log.error(text, f"{times:,}", path, reason)
        try:
            with path.open("ab") as file:
                if file.tell() + len(lines) <= REFUSED_LIMIT_BYTES:
                    file.write(f"# {reason}\n".encode("utf-8", "replace") + lines.rstrip(b"\n") + b"\n")
        except OSError as error:  # a full disk gets no emptier by waiting for it
            log.error("points: cannot keep what is refused: %s", error)

    def _counted(self, names: list[str]) -> dict[str, int]:
        """Lines of each of these files, about."""
        counts: dict[str, int] = {}
        read = found = 0
        for name in names:
            path = self._directory / name
            try:
                if read < COUNTED_BYTES:
                    content = path.read_bytes()
                    counts[name] = content.count(b"\n")
                    read, found = read + len(content), found + counts[name]
                else:
                    counts[name] = path.stat().st_size * found // read
            except OSError:
                counts[name] = 0  # put aside when it is its turn
        return counts

    def _changed_at(self, name: str) -> float:
        try:
            return (self._directory / name).stat().st_mtime
        except OSError:
            return time.time()

    def _names(self) -> list[str]:
        with os.scandir(self._directory) as entries:
            files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        ours = [name for name in files if name.endswith(SUFFIX) and name.removesuffix(SUFFIX).isdecimal()]
        return sorted(ours, key=_number)

    def _sync(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _number(name: str) -> int:
    return int(name.removesuffix(SUFFIX))
