"""What a job prints.

stdout and stderr are a file that the worker opened for appending. After each job it is emptied; its first and
its last part go with the D frame of a job that failed. We hold it by a descriptor of our own, because a job
may lead 1 and 2 elsewhere: they are put back before the next.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import re
import signal
import sys
from typing import Any

from .descriptors import Kept, file_of
from .frames import OUTPUT_LIMIT

FIRST_BYTES = OUTPUT_LIMIT // 4
"""So much of what is kept is from its beginning."""

READ_BYTES = 1 << 20

_LEFT_OUT = re.compile(rb"\n\.\.\. ([0-9]+) bytes left out \.\.\.\n")


def shorten(data: bytes) -> bytes:
    """At most OUTPUT_LIMIT bytes of it: the first and the last part, and how many are left out between.

    What a terminal would show overwritten, by a progress bar, is left out without a word. Output that was
    shortened before may be part of ``data``.
    """
    if b"\r" in data:
        data = b"\n".join(map(_last_state, data.split(b"\n")))
    if len(data) <= OUTPUT_LIMIT:
        return data
    room = OUTPUT_LIMIT - FIRST_BYTES - 64
    middle = data[FIRST_BYTES:-room]
    number = len(middle) + sum(int(mark[1]) - len(mark[0]) for mark in _LEFT_OUT.finditer(middle))
    return data[:FIRST_BYTES] + b"\n... %d bytes left out ...\n" % number + data[-room:]


def _last_state(line: bytes) -> bytes:
    begin = line.rfind(b"\r", 0, len(line.rstrip(b"\r"))) + 1
    return line[begin:]


def read_shortened(fd: int) -> bytes:
    """What is in the file now, shortened; a few MiB of memory are enough for it."""
    size, offset, kept = os.fstat(fd).st_size, 0, b""
    while offset < size:
        block = os.pread(fd, min(READ_BYTES, size - offset), offset)
        if not block:
            break
        offset += len(block)
        kept = shorten(kept + block)
    return kept


def answer_signals() -> None:
    """Write where this process is when it crashes, and when the worker asks."""
    faulthandler.enable(file=_own[0], all_threads=False)
    faulthandler.unregister(signal.SIGUSR1)
    faulthandler.register(signal.SIGUSR1, file=_own[0], all_threads=True)


_own = [2]
"""The descriptor of the output."""


def flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


class Output:
    """The file behind stdout and stderr, and the way back to it."""

    def __init__(self) -> None:
        nothing, self._kept = Kept(0), Kept(1)
        self.fd = _own[0] = self._kept.fd
        ways = enumerate((nothing, self._kept, self._kept))
        self._ways = [(number, kept, file_of(number)) for number, kept in ways]
        self._streams = [line_buffered(sys.stdout), line_buffered(sys.stderr)]

    def put_back(self) -> None:
        """Lead 0, 1 and 2, and the streams that Python has for the last two, to where they began."""
        for number, kept, file in self._ways:
            if file_of(number) != file and kept.intact():
                os.dup2(kept.fd, number)
        for number, name in enumerate(("stdout", "stderr")):
            stream = self._streams[number]
            if getattr(stream, "closed", True):
                raw = io.FileIO(number + 1, "w", closefd=False)
                stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace")
                self._streams[number] = line_buffered(stream)
                setattr(sys, "__%s__" % name, stream)
            if getattr(sys, name, None) is not stream:
                setattr(sys, name, stream)

    def ends(self) -> bytes:
        """The first and the last part of it."""
        flush_streams()
        return read_shortened(self.fd) if self._kept.intact() else b""

    def clear(self) -> None:
        flush_streams()
        file = self._kept.file()
        if file is not None and file.st_size:
            os.ftruncate(self.fd, 0)


def line_buffered(stream: Any) -> Any:
    stream.reconfigure(line_buffering=True, errors="backslashreplace")
    return stream
