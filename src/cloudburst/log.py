"""Logging of entry points: the only place where it is configured."""

from __future__ import annotations

import logging
import sys
import time

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
