"""Tables on stdout: as wide as the terminal, and complete where there is none."""

from __future__ import annotations

import sys
from datetime import datetime

from rich.table import Table

from cloudburst.console import Terminal

WIDE = 1_000_000
"""Columns where no terminal limits them: a program that reads a table wants all of it."""


def console() -> Terminal:
    """Where data goes."""
    return Terminal(width=None if sys.stdout.isatty() else WIDE)


def table() -> Table:
    """A table without lines, as command line tools print it."""
    return Table(box=None, pad_edge=False, header_style="bold")


def moment(unix_s: float) -> str:
    """Local time, to the second."""
    return datetime.fromtimestamp(unix_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
