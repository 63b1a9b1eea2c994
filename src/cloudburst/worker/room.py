"""Room on the disk of this node, and what to say when there is none."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloudburst.errors import NoRoomError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_SAID = ("No space left on device", "Disk quota exceeded")
"""What tools say on a full disk."""


@dataclass(frozen=True)
class Room:
    """The disk that holds ``directory`` on ``node``."""

    directory: Path
    node: str

    def check(self, needed_bytes: int) -> None:
        """Raise NoRoomError unless so much is free."""
        if shutil.disk_usage(self.directory).free < needed_bytes:
            raise self.error(needed_bytes)

    @contextmanager
    def explained(self, what: str = "the environment", needed_bytes: int = 0) -> Iterator[None]:
        """Turn the OSError of a full disk into a NoRoomError."""
        try:
            yield
        except OSError as error:
            if not is_full(error):
                raise
            raise self.error(needed_bytes, what) from error

    def error(self, needed_bytes: int = 0, what: str = "the environment", tail: str = "") -> NoRoomError:
        """Says which disk is full, how much is needed (0: not known), and what to do."""
        size = f"needs {needed_bytes / 1e6:,.1f} MB" if needed_bytes else "does not fit"
        free = shutil.disk_usage(self.directory).free / 1e6
        return NoRoomError(
            f"no room for {what} on {self.node}: it {size} on the disk of {self.directory}, where "
            f"{free:,.1f} MB are free: make room there, lower CLOUDBURST_ENVIRONMENTS_GB, or give that "
            "worker a CLOUDBURST_STATE_DIR on a larger disk",
            tail,
        )


def is_full(error: BaseException | None) -> bool:
    """Whether that is what the system says on a full disk."""
    return isinstance(error, OSError) and error.errno in _FULL


def says_full(tool_output: str) -> bool:
    """Whether a tool has met a full disk."""
    return any(words in tool_output for words in _SAID)
