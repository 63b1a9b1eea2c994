"""The points that one attempt has written, until it is known how it ended."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from cloudburst.points.batch import BATCH_BYTES
from cloudburst.worker.inside import frames

IN_MEMORY_BYTES = 4 << 20
"""More of one job goes to disk."""


class TooMuch(Exception):
    """The job has written more than a job may."""


class Written:
    """Lines in the order in which they came; many of them lie in a file without a name."""

    def __init__(self, directory: Path) -> None:
        self._file: tempfile.SpooledTemporaryFile[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 (close)
            IN_MEMORY_BYTES, dir=str(directory)
        )
        self._pieces: list[int] = []
        self.size = 0
        """Bytes."""

    def add(self, lines: bytes) -> None:
        """Put whole lines at the end. Raises TooMuch, or OSError, such as for a full disk."""
        self.size += len(lines)
        if self.size > frames.POINTS_LIMIT:
            raise TooMuch
        self._file.write(lines)
        self._file.flush()
        if self._pieces and self._pieces[-1] + len(lines) <= BATCH_BYTES:
            self._pieces[-1] += len(lines)
        else:
            self._pieces.append(len(lines))

    def pieces(self) -> Iterator[bytes]:
        """All of it once, in pieces of whole lines of about a write each; then it is closed."""
        with self._file:
            self._file.seek(0)
            for size in self._pieces:
                yield self._file.read(size)

    def close(self) -> None:
        """Forget all of it. May be repeated."""
        self._file.close()
