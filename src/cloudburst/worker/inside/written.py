"""Files that Python has not written yet: it keeps the last part of what is written in its memory."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import stat
import weakref
from typing import Any, List

_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


class Written:
    """Open files that modules or jobs write; a process that is not ended by Python would lose their ends."""

    def __init__(self) -> None:
        self._known: List["weakref.ref[Any]"] = []

    def look(self) -> None:
        """Find those that there are. It takes some milliseconds where much was imported."""
        self._known += [weakref.ref(one) for one in gc.get_objects() if _is_file(one)]

    def flush(self) -> None:
        """Write them."""
        for reference in self._known:
            with contextlib.suppress(Exception):  # it was closed, or its disk is full
                file = reference()
                if file is not None:
                    file.flush()


def _is_file(one: Any) -> bool:
    """Whether it is one; no pipe, whose other end might not read."""
    if not issubclass(type(one), _BUFFERED):
        return False
    with contextlib.suppress(Exception):
        return bool(one.writable()) and stat.S_ISREG(os.fstat(one.fileno()).st_mode)
    return False
