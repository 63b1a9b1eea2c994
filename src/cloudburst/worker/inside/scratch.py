"""The directories that jobs run in."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import tempfile
import time
from typing import Any, Iterator

from .variables import put

SETTLED_S = 0.1
"""A directory that has not changed for longer shows each change by its time; times are exact to a tick."""


class Scratch:
    """The directory that a job runs in: empty when it begins, whatever the one before has done to its own."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.directory = ""
        self._made = 0
        self._untouched: Any = None
        """Which directory it was, and when it had changed last, when it was found empty."""

    def enter(self) -> None:
        """Go into an empty directory, which is the one for temporary files, too."""
        try:
            os.chdir(self.directory)
        except OSError:  # it is gone, or there was none yet
            self._made += 1
            self.directory = os.path.join(self.parent, "job-%d" % self._made)
            os.mkdir(self.directory, 0o700)
            os.chdir(self.directory)
        _use_for_temporary_files(self.directory)

    @contextlib.contextmanager
    def of_modules(self) -> Iterator[None]:
        """Temporary files that modules make while they are imported are there for all jobs."""
        lasting = os.path.join(self.parent, "modules")
        os.makedirs(lasting, mode=0o700, exist_ok=True)
        _use_for_temporary_files(lasting)
        try:
            yield
        finally:
            _use_for_temporary_files(self.directory)

    def clean(self) -> None:
        """An empty directory serves the next job, too; any other is removed."""
        try:
            found = os.stat(self.directory)
            changed = found.st_ino, found.st_ctime_ns  # the time is the kernel's: nobody can set it
            if changed == self._untouched:
                return
            if not os.listdir(self.directory) and stat.S_IMODE(found.st_mode) == 0o700:
                whole = found.st_ctime_ns % 10**9 == 0  # maybe all are, on this file system
                settled = abs(time.time() - found.st_ctime) > SETTLED_S and not whole
                self._untouched = changed if settled else None
                return
        except OSError:
            pass
        self._untouched = None
        os.chdir(self.parent)
        _remove(self.directory)
        self.directory = ""

    def keep(self, kept: str) -> str:
        """Copy what the job has left in it to where it stays; a line that says where."""
        try:
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(self.directory, kept, symlinks=True)
        except OSError as error:
            return "\nIts scratch directory could not be kept: %s\n" % error
        return "\nIts scratch directory was kept: %s:%s\n" % (socket.gethostname(), kept)


def _use_for_temporary_files(directory: str) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        put(name, directory)
    tempfile.tempdir = None


def _remove(directory: str) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if os.path.isdir(directory):  # the job has taken rights from folders of its own
        for folder, names, _ in os.walk(directory):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                with contextlib.suppress(OSError):
                    if not os.path.islink(path):
                        os.chmod(path, 0o700)
        shutil.rmtree(directory, ignore_errors=True)
