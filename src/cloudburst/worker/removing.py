"""Removing what jobs have left, however large and deep it is."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

log = logging.getLogger(__name__)


def remove(directory: Path, patience_s: float | None = None) -> None:
    """Remove a directory, as far as it can be; after ``patience_s`` (None: never) it goes on in a thread."""
    if not directory.exists():
        return
    thread = threading.Thread(target=_remove, args=(directory,), name="removing", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # no thread to be had; the next worker with this state directory removes it
        log.warning("%s is not removed now: %s", directory, error)
        return
    thread.join(patience_s)


def _remove(top: Path) -> None:
    """Directories within it are moved to its top, and emptied one after another: jobs may nest them more
    deeply than Python can call, and than there are file descriptors."""
    with contextlib.suppress(OSError):
        descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _empty(descriptor)
        finally:
            os.close(descriptor)
        top.rmdir()


def _empty(top: int) -> None:
    token = secrets.token_hex(8)  # no job has a directory of that name
    names = (f".{token}-{number}" for number in count())
    left = _cleared(top, top, names)
    while left:
        name = left.pop()
        with contextlib.suppress(OSError):
            os.chmod(name, 0o700, dir_fd=top)
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
            try:
                left += _cleared(descriptor, top, names)
            finally:
                os.close(descriptor)
            os.rmdir(name, dir_fd=top)


def _cleared(directory: int, top: int, names: Iterator[str]) -> list[str]:
    """Remove the files of a directory, and move its directories to ``top``; their names there."""
    moved = []
    with os.scandir(directory) as entries:
        for entry in list(entries):
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    name = next(names)
                    os.rename(entry.name, name, src_dir_fd=directory, dst_dir_fd=top)
                    moved.append(name)
                else:
                    os.unlink(entry.name, dir_fd=directory)
    return moved
