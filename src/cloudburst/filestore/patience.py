"""When a client tries again after a failure, and when it gives up."""

from __future__ import annotations

import time

from cloudburst.errors import FileStoreError

QUICK_S = (0.2, 0.5)
"""Waits before a transfer has begun: a stack that does not run is reported within a second."""
LONG_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits in the middle of a transfer: long enough for a file store that is being restarted."""

TRANSIENT = frozenset({408, 409, 499, 502, 503, 504})
"""No answer in time, another request on the same upload, a gateway without its file store."""


class Unreachable(FileStoreError):
    """The file store did not answer, or the connection broke."""


class Patience:
    """The waits of one transfer."""

    def __init__(self) -> None:
        self._waits = list(QUICK_S)
        self._begun = False

    def begun(self) -> None:
        """Bytes were sent: from now on it is worth waiting for the file store to come back."""
        if not self._begun:
            self._begun = True
            self.progress()

    def progress(self) -> None:
        """More is done than ever before: start counting anew."""
        self._waits = list(LONG_S)

    def wait_after(self, error: FileStoreError) -> None:
        """Sleep, so that the caller can try again; raise ``error`` if that is no use, or no more."""
        if not self._waits or not (isinstance(error, Unreachable) or error.status in TRANSIENT):
            raise error
        time.sleep(self._waits.pop(0))
