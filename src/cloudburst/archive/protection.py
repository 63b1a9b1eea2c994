"""Payloads that several jobs use are read-only: what one wrote beside its model, another would read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def protect(directory: Path) -> None:
    """Take the right to write from a directory and all that is in it; at once if that was done before."""
    if not directory.stat().st_mode & _WRITE:
        return
    for folder, _, files in os.walk(directory, topdown=False):
        for name in files:
            _change(Path(folder, name), remove=_WRITE)
        _change(Path(folder), remove=_WRITE)  # the one that tells that all of it was done is the last


def unprotect(directory: Path) -> None:
    """Give its owner the right to write back, so that it can be changed or removed."""
    for folder, _, files in os.walk(directory):
        _change(Path(folder), add=stat.S_IWUSR)
        for name in files:
            _change(Path(folder, name), add=stat.S_IWUSR)


def _change(path: Path, *, add: int = 0, remove: int = 0) -> None:
    mode = path.lstat().st_mode
    wanted = mode & ~remove | add
    if wanted != mode and not stat.S_ISLNK(mode):
        path.chmod(stat.S_IMODE(wanted))
