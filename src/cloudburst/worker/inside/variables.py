"""Environment variables that differ from job to job.

The C library never frees a value that ``setenv`` has replaced: 100 bytes for each job of an executor. So each
variable has memory of its own here, which ``putenv`` makes part of the environment and each job overwrites.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Dict

ROOM = 128
"""Bytes that a variable has at least."""

_putenv = getattr(ctypes.CDLL(None), "putenv", None)
_data: Any = getattr(os.environ, "_data", None)
_memory: Dict[str, Any] = {}


def put(name: str, value: str) -> None:
    """As ``os.environ[name] = value`` does."""
    if _putenv is None or _data is None or "\0" in value:
        os.environ[name] = value
        return
    data = os.fsencode(value)
    whole = os.fsencode(name) + b"=" + data
    memory = _memory.get(name)
    if memory is None or len(memory) <= len(whole):
        memory = ctypes.create_string_buffer(max(ROOM, 2 * len(whole)))
    memory.value = whole
    _putenv(memory)  # each time: a job may have replaced or removed it
    _memory[name] = memory
    _data[os.fsencode(name)] = data
