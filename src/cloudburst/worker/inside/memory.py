"""Memory of the executor."""

from __future__ import annotations

import resource
import sys
import time

RSS_INTERVAL_S = 0.1


class Memory:
    """Resident memory of this process; looked up at most ten times a second."""

    def __init__(self) -> None:
        self._mb = 0
        self._next = 0.0

    def rss_mb(self) -> int:
        """In MiB, lately; where /proc does not say, the most there ever was."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + RSS_INTERVAL_S
            self._mb = self._look_up()
        return self._mb

    @staticmethod
    def _look_up() -> int:
        try:
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize() >> 20
        except OSError:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; bytes on macOS
            return peak >> 20 if sys.platform == "darwin" else peak >> 10
