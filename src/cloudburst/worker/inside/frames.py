"""What the worker and an executor say to each other: the only part of this folder that both import.

One socket between them keeps the bounds of messages; each message is a job: eight bytes by which the worker
recognises it, JSON header, newline, data as the client's serializer wrote it. If that is large, the header
names a file that holds all but the eight bytes. It is taken when its turn has come, not before: the worker
may take the others back.

The other socket is a stream of frames: four bytes of length (big endian), one byte of kind, then the body.

====  ==============================================================================
kind  body
====  ==============================================================================
B     the number of a job (ORDER): its function is there and is called next. Said once for each ensemble,
      before a job can say anything: that no job of it can run is not believed afterwards
P     points that the running job wrote: lines of line protocol, each with its time
S     its summary point (measurement ``result``): one line
D     JSON header, newline, the returned value as JSON; or the captured output
T     from the worker, once and before any job: the payload's directory, its settings and variables, as JSON.
      Not through the queue, from which the worker may take back what we have not taken
====  ==============================================================================
"""

from __future__ import annotations

import socket
import struct
import sys

HEADER = struct.Struct(">IB")
ORDER = struct.Struct(">Q")
BEGUN, POINTS, SUMMARY, DONE, TAKE_ON = b"BPSDT"
QUEUE_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
INLINE_BYTES = 32 * 1024 if sys.platform == "linux" else 1024
"""Data of a job that goes into a message; more goes into a file."""
MESSAGE_LIMIT = INLINE_BYTES + 4096
VALUE_LIMIT = 64 * 1024
"""Bytes of a returned value as JSON."""
DEPTH_LIMIT = 100
"""Lists and dicts within each other in a returned value."""
OUTPUT_LIMIT = 64 * 1024
"""Bytes of output that go with a failure."""
ERROR_LIMIT = 4 * 1024
"""Bytes of a failure's one line."""
TRACEBACK_LIMIT = 64 * 1024
HEAD_LIMIT = 1 << 20
"""Bytes of the header of a D frame."""
SERIES_LIMIT = 100
"""Entries of ``series`` in it."""
LINE_LIMIT = 64 * 1024
"""Bytes of one line of line protocol."""
POINTS_FRAME_LIMIT = 1 << 20
POINTS_LIMIT = 1 << 30
"""Bytes of line protocol that one job may write."""


def pack(kind: int, body: bytes) -> bytes:
    """One frame."""
    return HEADER.pack(len(body), kind) + body


def split(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Take the complete frames off the front of a bytearray: a list of (kind, body)."""
    frames = []
    offset = 0
    while len(buffer) - offset >= HEADER.size:
        length, kind = HEADER.unpack_from(buffer, offset)
        end = offset + HEADER.size + length
        if len(buffer) < end:
            break
        frames.append((kind, bytes(buffer[offset + HEADER.size : end])))
        offset = end
    del buffer[:offset]
    return frames
