"""Files that several jobs use: no job may write there, because another would read it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

NOBODY = 2_000_000_009
"""A user that no system has. What belongs to it can only be written by root with all of its rights."""

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def protect(directory: Path) -> None:
    """Keep jobs that run as this user from writing into a directory; at once if that was done before.

    Root gives it away, so that copies of it can be written as ever. Other users can only take the right to
    write from themselves, and so from those who copy modes.
    """
    status = directory.stat()
    if status.st_uid == NOBODY or not status.st_mode & _WRITE:
        return
    if os.geteuid() == 0:
        try:
            for path in _below(directory):  # itself last: it tells that all of it was done
                os.chown(path, NOBODY, -1, follow_symlinks=False)
            return
        except OSError:  # a root that may not, as in some containers
            pass
    for path in _below(directory):
        _change(path, remove=_WRITE)


def unprotect(directory: Path) -> None:
    """Give the owner the right to write back where it was taken, so that all of it can be removed."""
    for folder, _, files in os.walk(directory):
        _change(Path(folder), add=stat.S_IWUSR)
        for name in files:
            _change(Path(folder, name), add=stat.S_IWUSR)


def _below(directory: Path) -> Iterator[Path]:
    for folder, _, files in os.walk(directory, topdown=False):
        yield from (Path(folder, name) for name in files)
        yield Path(folder)


def _change(path: Path, *, add: int = 0, remove: int = 0) -> None:
    mode = path.lstat().st_mode
    wanted = mode & ~remove | add
    if wanted != mode and not stat.S_ISLNK(mode):
        path.chmod(stat.S_IMODE(wanted))
