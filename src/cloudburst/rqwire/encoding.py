"""RQ's encodings (RQ 2.x: ``rq/job.py``, ``rq/results.py``): job data, results, times."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from datetime import UTC, datetime
from typing import Any

from cloudburst import nested

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def now() -> str:
    """The current time as RQ writes it."""
    return datetime.now(UTC).strftime(TIME_FORMAT)


def timestamp(text: bytes | str | None) -> float:
    """Unix time in seconds of what RQ wrote; 0 for nothing."""
    if not text:
        return 0.0
    plain = text.decode() if isinstance(text, bytes) else text
    return datetime.strptime(plain, TIME_FORMAT).replace(tzinfo=UTC).timestamp()


def data_frame(function: str) -> tuple[bytes, bytes]:
    """What stands before and behind a JSON job description in a job's data (RQ's JSONSerializer)."""
    return f"[{json.dumps(function)},null,[".encode(), b"],{}]"


def plain_data(raw: bytes) -> bytes:
    """Job data as its serializer wrote it: stock RQ compresses it."""
    if raw[:1] != b"x":  # as what zlib.compress() returns begins
        return raw
    try:
        return zlib.decompress(raw)
    except zlib.error:
        return raw


def is_pickled(data: bytes) -> bool:
    """Whether plain job data was written by RQ's default serializer (pickle protocol 2 and above)."""
    return data[:1] == b"\x80"


def description(raw: bytes) -> dict[str, Any]:
    """The job description in JSON job data; empty when it has none. Never unpickles."""
    data = plain_data(raw)
    if is_pickled(data):
        return {}
    try:
        args = nested.loads(data)[2]
    except (ValueError, LookupError, TypeError):
        return {}
    return args[0] if isinstance(args, list) and args and isinstance(args[0], dict) else {}


def return_value(value: bytes, *, pickled: bool) -> bytes:
    """A JSON return value as ``rq:results`` holds it, for a client that reads JSON or pickles."""
    data = pickle.dumps(json.loads(value), protocol=4) if pickled else value
    return base64.b64encode(data)


def exception(text: str) -> bytes:
    """A traceback as ``rq:results`` holds it."""
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace")))


def exception_text(raw: bytes) -> str:
    """The inverse of ``exception``; "" for nothing."""
    return zlib.decompress(base64.b64decode(raw)).decode("utf-8", "replace") if raw else ""


def output(data: bytes) -> bytes:
    """Captured output as the job's hash holds it."""
    return zlib.compress(data) if data else b""


def output_text(raw: bytes | None) -> str:
    """The inverse of ``output``."""
    return zlib.decompress(raw).decode("utf-8", "replace") if raw else ""
