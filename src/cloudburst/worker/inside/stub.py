"""The module that user code imports as ``cloudburst.results``, here and in each process that a job starts."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any, Iterator

from .variables import put

SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")
"""Holds nothing but the package ``cloudburst``, and that nothing but ``results``."""


def load_results(written: str) -> Any:
    """The module. ``written`` is the file that other processes of a job add their points to.

    Those find it by two variables: all that Python starts inherits them, whatever starts it.
    """
    put("CLOUDBURST_POINTS", written)
    put("PYTHONPATH", os.pathsep.join(filter(None, [SITE, os.environ.get("PYTHONPATH", "")])))
    sys.path.insert(0, SITE)
    return importlib.import_module("cloudburst.results")


def collect(written: str) -> Iterator[str]:
    """What other processes of the job have written, in whole lines; it is gone then."""
    if not os.access(written, os.F_OK):  # as a rule; an exception takes longer
        return
    with contextlib.suppress(FileNotFoundError), open(written, encoding="utf-8") as file:
        os.unlink(written)
        yield from file
