"""Points that the database has not taken yet, on disk, in the order in which they came."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIX = ".lp"
REFUSED = "refused.txt"
"""Lines that the database will never take, kept for whoever wants to know."""


class Spool:
    """A directory of numbered files of line protocol; what ``add`` has returned from survives a power cut."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for unfinished in directory.glob("*.tmp"):
            unfinished.unlink()
        names = self._names()
        self._next = int(Path(names[-1]).stem) + 1 if names else 0
        self._bytes = sum((directory / name).stat().st_size for name in names)
        self._count = len(names)

    def __bool__(self) -> bool:
        return self._count > 0

    @property
    def size_bytes(self) -> int:
        """Bytes that wait."""
        return self._bytes

    def add(self, lines: bytes) -> None:
        """Put lines at the end. Raises OSError, such as for a full disk; then nothing was added."""
        target = self._directory / f"{self._next:012d}{SUFFIX}"
        temporary = target.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._sync()
        self._next += 1
        self._bytes += len(lines)
        self._count += 1

    def first(self) -> tuple[Path, bytes]:
        """The oldest file and its lines; only when there is one."""
        path = self._directory / self._names()[0]
        return path, path.read_bytes()

    def remove(self, path: Path) -> None:
        """Forget a file: its lines are in the database."""
        size = path.stat().st_size
        path.unlink()
        self._bytes -= size
        self._count -= 1

    def refuse(self, line: bytes, reason: str) -> None:
        """Put a line aside that the database will never take."""
        with (self._directory / REFUSED).open("ab") as file:
            file.write(f"# {reason}\n".encode() + line + b"\n")

    def _names(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self._directory) if entry.name.endswith(SUFFIX))

    def _sync(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
