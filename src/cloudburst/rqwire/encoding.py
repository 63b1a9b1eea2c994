"""RQ's encodings (RQ 2.x: ``rq/job.py``, ``rq/results.py``): job data, results, times.

What Redis holds may have been written by anybody. Reading raises nothing here, whatever the bytes are: what
cannot be read is nothing, such as 0, "" or {}.
"""

from __future__ import annotations

import base64
import json
import math
import pickle
import zlib
from datetime import UTC, datetime
from typing import Any

from cloudburst import nested

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"

MOST_DIGITS = 18

DATA_LIMIT_BYTES = 64 * 1024 * 1024
"""Of what a stock client compressed, this much is unpacked; a MiB may have been made from a GiB."""

TEXT_LIMIT_BYTES = 1024 * 1024
"""The same for tracebacks and output."""


def now() -> str:
    """The current time as RQ writes it."""
    return datetime.now(UTC).strftime(TIME_FORMAT)


def timestamp(text: bytes | str | None) -> float:
    """Unix time in seconds of what RQ wrote."""
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text or ""
    try:
        return datetime.strptime(plain, TIME_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def text(raw: bytes | None) -> str:
    """What is shown to people, or compared."""
    return (raw or b"").decode("utf-8", "replace")


def name(raw: bytes) -> str:
    """An id or a name, of which ``named`` makes the same bytes again."""
    return raw.decode("utf-8", "surrogateescape")


def named(text: str) -> bytes:
    """The inverse of ``name``."""
    return text.encode("utf-8", "surrogateescape")


def whole(raw: bytes | int | None, default: int = 0) -> int:
    """A whole number of at most 18 digits."""
    if isinstance(raw, int):
        return raw
    digits = (raw or b"").removeprefix(b"-")
    return int(raw or 0) if digits.isdigit() and len(digits) <= MOST_DIGITS else default


def number(raw: bytes | str | None) -> float:
    """A finite number."""
    try:
        value = float(raw or 0)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def data_frame(function: str) -> tuple[bytes, bytes]:
    """What stands before and behind a JSON job description in a job's data (RQ's JSONSerializer)."""
    return f"[{json.dumps(function)},null,[".encode(), b"],{}]"


def plain_data(raw: bytes) -> bytes:
    """Job data as its serializer wrote it: stock RQ compresses it. What is too large ends at the limit."""
    if raw[:1] != b"x":  # as what zlib.compress() returns begins
        return raw
    unpacked = _unpacked(raw, DATA_LIMIT_BYTES + 1)
    return raw if unpacked is None else unpacked


def _unpacked(raw: bytes, limit: int) -> bytes | None:
    """At most ``limit`` bytes of what zlib packed; None if it did not."""
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(raw, limit)
    except zlib.error:
        return None
    return unpacked if unpacking.eof or len(unpacked) == limit else None


def is_pickled(data: bytes) -> bool:
    """Whether plain job data was written by RQ's default serializer (pickle protocol 2 and above)."""
    return data[:1] == b"\x80"


def description(raw: bytes) -> dict[str, Any]:
    """The job description in JSON job data; empty when it has none. Never unpickles."""
    data = plain_data(raw)
    if is_pickled(data):
        return {}
    args = json_of(data)
    args = args[2] if isinstance(args, list) and len(args) > 2 else None
    return args[0] if isinstance(args, list) and args and isinstance(args[0], dict) else {}


def json_of(raw: bytes) -> Any:
    """What the JSON stands for; None if it is none, or is nested too deeply."""
    try:
        return nested.loads(raw)
    except ValueError:
        return None


def return_value(value: bytes, *, pickled: bool) -> bytes:
    """A JSON return value as ``rq:results`` holds it, for a client that reads JSON or pickles."""
    data = pickle.dumps(json.loads(value), protocol=4) if pickled else value
    return base64.b64encode(data)


def exception(text: str) -> bytes:
    """A traceback as ``rq:results`` holds it."""
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace")))


def exception_text(raw: bytes) -> str:
    """The inverse of ``exception``."""
    try:
        return output_text(base64.b64decode(raw))
    except ValueError:
        return ""


def middle_left_out(text: str, limit: int) -> str:
    """The text, or its beginning and its end if it has more bytes than the limit."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return text
    half = limit // 2
    return f"{raw[:half].decode('utf-8', 'ignore')}\n...\n{raw[-half:].decode('utf-8', 'ignore')}"


def output(data: bytes) -> bytes:
    """Captured output as the job's hash holds it."""
    return zlib.compress(data) if data else b""


def output_text(raw: bytes | None) -> str:
    """The inverse of ``output``; of a megabyte the beginning."""
    return text(_unpacked(raw or b"", TEXT_LIMIT_BYTES))
