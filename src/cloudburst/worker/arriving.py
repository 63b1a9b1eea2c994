"""A file that is still on its way here, read along as it grows."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import BinaryIO

_LOOK_S = 0.01
"""How often somebody who has read everything looks for more."""


class Arriving(io.RawIOBase):
    """What another thread writes into ``path``, from its beginning; reading waits for what is not there yet.

    What has been written once is not written otherwise later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended = threading.Event()
        self._file: BinaryIO | None = None

    def end(self) -> None:
        """Nothing more will be written, for whatever reason."""
        self._ended.set()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        while True:
            is_last = self._ended.is_set()
            block = self._available(size)
            if block or is_last:
                return block
            self._ended.wait(_LOOK_S)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()

    def _available(self, size: int) -> bytes:
        if self._file is None:
            try:
                self._file = self._path.open("rb", buffering=0)
            except FileNotFoundError:
                return b""
        return self._file.read(size)
