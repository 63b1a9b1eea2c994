"""Logging of entry points: the only place where it is configured."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Hashable

from cloudburst.terminal import harmless

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class _Harmless(logging.Formatter):
    """Records quote what jobs, files and servers said."""

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


def configure(*, verbose: bool = False) -> None:
    """Send log records to stderr, with UTC times; ``info`` and above, or everything when ``verbose``."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = _Harmless(FORMAT, datefmt="%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        logging.getLogger("urllib3").setLevel(logging.WARNING)


class Repeats:
    """Counts what happens again and again: the log has a line for the 1st, 10th, 100th time and so on."""

    def __init__(self, most: int = 1000) -> None:
        """Knows the ``most`` kinds that have happened lately."""
        self._most = most
        self._counts: dict[Hashable, int] = {}

    def worth_saying(self, kind: Hashable) -> int:
        """How often it has happened, now once more, if that is worth a line; else 0."""
        count = self._counts.pop(kind, 0) + 1
        if len(self._counts) >= self._most:
            del self._counts[next(iter(self._counts))]
        self._counts[kind] = count
        return count if str(count).strip("0") == "1" else 0
