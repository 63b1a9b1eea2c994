"""Copies of the payload's files are a job's own, and can be written.

Where executors run as the user that owns the payload, the right to write is taken from its files, and whoever
copies a file's mode would copy that, too. (What is copied by ``cp -r`` keeps its mode; elsewhere it is not
taken at all, see ``archive.protection``.)
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import Any, Callable

from .payload import Payload


def make_writable(payload: Payload) -> None:
    """Have ``shutil`` do so from now on, if it is called for."""
    status = os.stat(payload.directory)
    if status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWUSR:
        shutil.copymode = _writable(shutil.copymode, payload)
        shutil.copystat = _writable(shutil.copystat, payload)


def _writable(copy: Callable[..., None], payload: Payload) -> Callable[..., None]:
    def copied(src: Any, dst: Any, *, follow_symlinks: bool = True) -> None:
        copy(src, dst, follow_symlinks=follow_symlinks)
        source = os.path.realpath(os.fsdecode(src))
        if source == payload.directory or payload.contains(source):
            os.chmod(dst, stat.S_IMODE(os.stat(dst).st_mode) | stat.S_IWUSR)

    return copied
