"""What an executor may do that runs as root: no more than the modes of files allow, like any other user."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

from .lifelines import libc

CAP_DAC_OVERRIDE, CAP_FOWNER = 1, 3
_DROPPED = 1 << CAP_DAC_OVERRIDE | 1 << CAP_FOWNER
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION_3 = 0x20080522


def obey_modes() -> None:
    """Linux: root cannot write where nobody may, nor can what it starts. It still reads everything."""
    with contextlib.suppress(Exception):  # not Linux
        library = libc()
        for capability in (CAP_DAC_OVERRIDE, CAP_FOWNER):
            library.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        _drop(library)


def _drop(library: Any) -> None:
    import ctypes

    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    if library.capget(header, data) == 0:
        effective, permitted, inheritable, *high = struct.unpack("=6I", data.raw)
        kept = [one & ~_DROPPED for one in (effective, permitted, inheritable)]
        library.capset(header, struct.pack("=6I", *kept, *high))
