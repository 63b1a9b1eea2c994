"""What an executor says, as typed values: the one place where its bytes are read.

Jobs run in the executor's own process, so any of them can write what it likes into its sockets. All that is
not a frame within the limits of ``inside.frames``, with the values that belong there, is ``Disturbed``.
Memory is bounded by the largest frame.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from cloudburst import names
from cloudburst.points import parse
from cloudburst.worker.inside import frames

_LIMITS = {
    frames.BEGUN: frames.ORDER.size,
    frames.POINTS: frames.POINTS_FRAME_LIMIT,
    frames.SUMMARY: frames.LINE_LIMIT,
    frames.DONE: frames.HEAD_LIMIT + 1 + max(frames.VALUE_LIMIT, frames.OUTPUT_LIMIT),
}
"""Bytes of the body of each kind of frame."""

TICKS = 60
"""Times that ``tick`` may be called within one frame. Executors write frames at a stretch."""

_MOST_MB = 1 << 30
_FINGERPRINT = re.compile(r"[0-9A-Za-z_.-]{0,64}")
_OWN = names.MEASUREMENT_RESULT.encode()


class Disturbed(Exception):
    """An executor has said what it never says: a job must have written into its sockets. Says what it was."""


class Begun(NamedTuple):
    """The function of the running job is called: jobs of its ensemble can run."""

    order: int


class Points(NamedTuple):
    """Lines that the running job wrote, each with its time and its newline."""

    lines: bytes


class Summary(NamedTuple):
    """CloudBurst's own point about the running job: one line."""

    line: bytes


class Ended(NamedTuple):
    """How a job ended."""

    order: int
    state: Literal["finished", "failed"]
    started: float
    """Unix time in seconds."""
    duration: float
    """Seconds."""
    rss_mb: float
    body: bytes
    """The returned value as JSON, or the end of the output of a job that failed."""
    renew: str
    """Why the executor should take no further job; "" if it may."""
    series: Mapping[str, tuple[int, int]]
    """Series that the job wrote, each with its first and last time (ns)."""
    error: str = ""
    """One line; it and what follows is about a job that failed."""
    fingerprint: str = ""
    traceback: str = ""
    broken: bool = False
    """No job of the payload can run."""


Reply = Begun | Points | Summary | Ended


class Replies:
    """The stream of one executor, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ticks = 0

    def read(self, chunk: bytes) -> Iterator[Reply]:
        """What is complete now. Raises Disturbed, after what was said before."""
        self._buffer += chunk
        start = 0
        while len(self._buffer) - start >= frames.HEADER.size:
            length, kind = frames.HEADER.unpack_from(self._buffer, start)
            begin = start + frames.HEADER.size
            if length > _LIMITS.get(kind, -1):
                raise Disturbed(f"a frame of kind {kind} with {length:,} bytes")
            if len(self._buffer) < begin + length:
                break
            start = begin + length
            yield _reply(kind, bytes(self._buffer[begin:start]))
            self._ticks = 0
        del self._buffer[:start]

    def tick(self) -> None:
        """To be called now and then. Raises Disturbed for a frame that does not end."""
        self._ticks = self._ticks + 1 if self._buffer else 0
        if self._ticks > TICKS:
            raise Disturbed(f"a frame that does not end, of which {len(self._buffer):,} bytes came")


def _reply(kind: int, body: bytes) -> Reply:
    if kind == frames.DONE:
        return _ended(body)
    if kind == frames.BEGUN:
        if len(body) != frames.ORDER.size:
            raise Disturbed(f"the beginning of a job in {len(body)} bytes")
        return Begun(*frames.ORDER.unpack(body))
    try:
        whole = parse.are_whole(body.decode())
    except UnicodeDecodeError:
        whole = False
    if not whole:
        raise Disturbed(f"points that are no line protocol: {body[:100]!r}")
    if kind == frames.SUMMARY:
        if not _is_own(body) or body.count(b"\n") > 1:
            raise Disturbed(f"a summary that is none: {body[:100]!r}")
        return Summary(body)
    if len(body) > frames.LINE_LIMIT:
        longest = max(body.split(b"\n"), key=len)
        if len(longest) > frames.LINE_LIMIT:
            raise Disturbed(f"a line of {len(longest):,} bytes: {longest[:100]!r}")
    if b"\n" + _OWN in b"\n" + body and any(map(_is_own, parse.whole_lines(body))):
        raise Disturbed(f"points of the measurement {names.MEASUREMENT_RESULT}, which is CloudBurst's own")
    return Points(body)


def _is_own(line: bytes) -> bool:
    return line.startswith((_OWN + b",", _OWN + b" "))


def _ended(body: bytes) -> Ended:
    head, newline, rest = body.partition(b"\n")
    try:
        if not newline or len(head) > frames.HEAD_LIMIT:
            raise ValueError("without a header")
        told = _HEADER.decode(head.decode())
        if not isinstance(told, dict):
            raise ValueError("whose header is no object")
        ended = Ended(
            order=_integer(told, "order", 0, (1 << 63) - 1),
            state=_state(told),
            started=_number(told, "started", 0, 1e12),
            duration=_number(told, "duration", 0, 1e12),
            rss_mb=_number(told, "rss_mb", 0, _MOST_MB),
            body=rest,
            renew=_text(told, "renew", frames.ERROR_LIMIT),
            series=_series(told.get("series", {})),
        )
        if ended.state == "finished":
            _check_value(rest)
        else:
            ended = ended._replace(**_failure(told, rest))
    except RecursionError:
        raise Disturbed("the end of a job, nested too deeply") from None
    except ValueError as error:
        raise Disturbed(f"the end of a job {_shown(error)}") from None
    return ended


def _failure(told: Mapping[str, Any], output: bytes) -> dict[str, Any]:
    if len(output) > frames.OUTPUT_LIMIT:
        raise ValueError(f"with {len(output):,} bytes of output")
    fingerprint = _text(told, "fingerprint", frames.ERROR_LIMIT)
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError(f"with the fingerprint {fingerprint[:100]!r}")
    return {
        "error": _text(told, "error", frames.ERROR_LIMIT),
        "fingerprint": fingerprint,
        "traceback": _text(told, "traceback", frames.TRACEBACK_LIMIT),
        "broken": _flag(told, "broken"),
    }


def _shown(error: ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "that is no text"
    return f"that is no JSON ({error})" if isinstance(error, json.JSONDecodeError) else str(error)[:300]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("that says something twice")
    return found


def _refused(constant: str) -> float:
    raise ValueError(f"with the number {constant}")


_HEADER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refused)
_VALUE = json.JSONDecoder(object_pairs_hook=_unique)
"""Values may hold NaN and Infinity, as Python's JSON does."""


def _check_value(value: bytes) -> None:
    """Whether whoever reads it later can. Raises ValueError or RecursionError."""
    if len(value) > frames.VALUE_LIMIT:
        raise ValueError(f"with a value of {len(value):,} bytes")
    if value == b"null":
        return
    decoded = _VALUE.decode(value.decode())
    if value.count(b"[") + value.count(b"{") > frames.DEPTH_LIMIT:
        _check_depth(decoded)
    if b"\\u" in value:
        json.dumps(decoded, ensure_ascii=False).encode()  # half of a surrogate pair has no UTF-8


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(frames.DEPTH_LIMIT):
        inside = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for several in inside for each in several if isinstance(each, (dict, list))]
    if level:
        raise ValueError(f"with a value of more than {frames.DEPTH_LIMIT} levels")


def _state(told: Mapping[str, Any]) -> Literal["finished", "failed"]:
    state = told.get("state")
    if state == "finished":
        return "finished"
    if state == "failed":
        return "failed"
    raise ValueError(f"with the state {state!r:.100}")


def _number(told: Mapping[str, Any], name: str, least: float, most: float) -> float:
    value: Any = told.get(name)
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f"with {name} {_short(value)}")
    return float(value)


def _integer(told: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = told.get(name)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"with {name} {_short(value)}")
    return value


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, float) else f"of type {type(value).__name__}, or out of bounds"


def _flag(told: Mapping[str, Any], name: str) -> bool:
    value = told.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"with {name} of type {type(value).__name__}")
    return value


def _text(told: Mapping[str, Any], name: str, limit: int) -> str:
    """A text that has an encoding: file names that are no text come with halves of surrogate pairs."""
    value = told.get(name, "")
    if value == "":
        return ""
    if not isinstance(value, str):
        raise ValueError(f"with {name} of type {type(value).__name__}")
    encoded = value.encode("utf-8", "replace")
    if len(encoded) > limit:
        raise ValueError(f"with {name} of {len(encoded):,} bytes")
    return encoded.decode()


def _series(told: Any) -> dict[str, tuple[int, int]]:
    if told == {}:
        return {}
    if not isinstance(told, dict) or len(told) > frames.SERIES_LIMIT:
        raise ValueError("with series that are none")
    return {name: _span(times) for name, times in told.items()}


def _span(times: Any) -> tuple[int, int]:
    limit = parse.TIME_LIMIT
    if not isinstance(times, list) or len(times) != 2 or {type(time) for time in times} != {int}:
        raise ValueError("with times of a series that are none")
    first, last = times
    if not -limit <= first <= last <= limit:
        raise ValueError("with times of a series that are none")
    return first, last
