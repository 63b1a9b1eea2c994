"""Environment variables that differ from job to job.

The C library never frees a value that ``setenv`` has replaced: 100 bytes for each job of an executor. So each
variable has memory of its own here, which ``putenv`` makes part of the environment and each job overwrites.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Dict, Tuple

ROOM = 128
"""Bytes that a variable has at least."""

_putenv = getattr(ctypes.PyDLL(None), "putenv", None)
_data: Any = getattr(os.environ, "_data", None)
_set: Dict[str, Tuple[str, bytes, bytes, Any]] = {}
"""Of each variable: its value, its name and value as bytes, and the memory that both are in."""


def put(name: str, value: str) -> None:
    """As ``os.environ[name] = value`` does."""
    if _putenv is None or _data is None or "\0" in value:
        os.environ[name] = value
        return
    known: Any = _set.get(name) or ("", os.fsencode(name), b"", b"")
    before, key, data, memory = known
    if value == before and _data.get(key) is data:
        return
    data = os.fsencode(value)
    whole = key + b"=" + data
    if len(memory) <= len(whole):
        memory = ctypes.create_string_buffer(max(ROOM, 2 * len(whole)))
    memory.value = whole
    _putenv(memory)  # each time: a job may have replaced or removed it
    _set[name] = value, key, data, memory
    _data[key] = data
