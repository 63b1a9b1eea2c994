"""A strict reader of InfluxDB line protocol, as exact as InfluxDB 2 and with its names for what is wrong.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/ ; where that is silent, InfluxDB's
own parser decides (models/points.go): a separator is escaped by the one backslash before it, whatever stands
before that, and quotes mean something only right after the ``=`` of a field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from cloudburst.errors import PointsError

FieldValue = float | int | bool | str

PRECISIONS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
"""Nanoseconds per unit of time."""

TIME_LIMIT = 2**63 - 2

LINE_LIMIT = 1 << 20
"""Characters of a line; the longest text that InfluxDB keeps in a field has as many bytes."""

KEY_LIMIT = 65535
"""Bytes of measurement, tags and the name of one field together, as in InfluxDB."""

_DIGITS_LIMIT = 40
"""A time has fewer digits. Python refuses to read numbers of thousands of digits."""

_CACHED_KEYS = 10_000
"""Measurements with tags that are read once, as they come again and again."""


class Series(NamedTuple):
    """A measurement and its tags, sorted by key: what tells one series from another."""

    measurement: str
    tags: tuple[tuple[str, str], ...]


class Point(NamedTuple):
    """One point; ``time`` in nanoseconds since 1970."""

    series: Series
    time: int
    fields: dict[str, FieldValue]


class LineError(PointsError):
    """A line that is not line protocol: ``line`` counts from 1, ``reason`` is in InfluxDB's words."""

    def __init__(self, line: int, text: str, reason: str) -> None:
        shown = text if len(text) <= 200 else text[:200] + "…"
        super().__init__(f"line {line}: unable to parse '{shown}': {reason}")
        self.line = line
        self.reason = reason


# Atomic groups, (?>...), and no possessive quantifiers of groups, (...)++: with these, Debian 12's Python
# (3.11.2) finds nothing. Tried: 3.11.7 does.
_NAME = r"(?>(?:[^ ,=\n]++|(?<=\\)[ ,=])+)"
_VALUE = r'(?:"(?>(?:[^"\\]++|\\.)*)"|[^ ,"\n][^ ,\n]*+)'
_FIELD = rf"{_NAME}={_VALUE}"
_KEY = r"(?![#,])(?>(?:[^ \n]++|(?<=\\) )+)"
_LINE = re.compile(
    rf"[ \t]*+({_KEY})[ ]++({_FIELD}(?>(?:,{_FIELD})*))(?:[ ]++(-?[0-9]++))?[ \r]*+(?:\n|\Z)", re.DOTALL
)
_WHOLE = re.compile(rf"(?>(?:{_KEY}[ ]{_FIELD}(?>(?:,{_FIELD})*)[ ]-?[0-9]++\n)+)", re.DOTALL)
_WHOLE_LINE = re.compile(rf"({_KEY})[ ]{_FIELD}(?>(?:,{_FIELD})*)[ ]-?[0-9]++(?:\n|\Z)", re.DOTALL)
_EMPTY = re.compile(r"[ \t\r]*+(?:#[^\n]*+)?(?:\n|\Z)")
_FIELDS = re.compile(rf"({_NAME})=({_VALUE})(?:,|\Z)", re.DOTALL)
_SEPARATOR = re.compile(r"(?<!\\),")
_EQUALS = re.compile(r"(?<!\\)=")
_TRUE = ("t", "T", "true", "True", "TRUE")
_BOOLEANS = {word: word in _TRUE for word in (*_TRUE, "f", "F", "false", "False", "FALSE")}


def parse(text: str, *, precision: str = "ns", now: int) -> Iterator[Point]:
    """Yield the points of ``text``; ``now`` (ns) is the time of those that have none.

    Raises LineError at the first line that is not line protocol, after the points before it. Takes time in
    proportion to the length of ``text``, whatever that is.
    """
    unit = PRECISIONS[precision]
    now -= now % unit
    known: dict[str, Series] = {}
    match, end, position = _LINE.match, len(text), 0
    while position < end:
        stop = min(position + LINE_LIMIT, end)
        found = match(text, position, stop)
        line = found or _EMPTY.match(text, position, stop)
        cut = line.end() == stop and text[stop - 1] != "\n" if line else "\n" not in text[position:stop]
        if cut and stop < end:
            raise _error(text, position, f"line too long: the limit is {LINE_LIMIT} characters")
        if line is None:
            raise _error(text, position, _reason(_line_at(text, position)))
        if found:
            key, fields, stamp = found.groups()
            try:
                series = known.get(key)
                if series is None:
                    if len(known) >= _CACHED_KEYS:
                        known.clear()
                    series = known[key] = _series(key)
                point = Point(series, now if stamp is None else _time(stamp, unit), _field_set(fields))
                if 4 * (len(key) + len(fields)) > KEY_LIMIT:
                    _check_key(key, point.fields)
            except _Malformed as malformed:
                raise _error(text, position, str(malformed)) from None
            yield point
        position = line.end()


def are_whole(text: str) -> bool:
    """Whether ``text`` is nothing but lines of this form, each with its time and its newline.

    It is not looked at what the values are: 0.7 µs per line.
    """
    return _WHOLE.fullmatch(text) is not None


def whole_lines(lines: bytes) -> Iterator[bytes]:
    """Cut ``lines`` after their newlines; a newline within a quoted text does not end a line."""
    text = lines.decode("utf-8", "surrogateescape")
    position = 0
    while position < len(text):
        found = _LINE.match(text, position)
        stop = found.end() if found else text.find("\n", position) + 1 or len(text)
        yield text[position:stop].encode("utf-8", "surrogateescape")
        position = stop


def keys_of(lines: bytes) -> set[bytes]:
    """What stands before the fields of whole lines: measurements with tags, as written. 0.7 µs per line."""
    return {key.encode() for key in _WHOLE_LINE.findall(lines.decode("utf-8", "replace"))}


def beginnings_of(lines: bytes) -> set[bytes]:
    """Keys, or parts of them that end with a backslash; and words behind a newline in a text.

    0.04 µs per line if all are of one series, else 0.17.
    """
    first = lines[: lines.find(b" ") + 1]
    if lines.count(b"\n" + first) == lines.count(b"\n") - 1:
        return {first[:-1]}
    return {line.partition(b" ")[0] for line in lines.split(b"\n") if line}


def series_of(key: str) -> Series:
    """What a key says; one that no database takes is a measurement of its own."""
    try:
        return _series(key)
    except _Malformed:
        return Series(key, ())


class _Malformed(ValueError):
    """Why the line at hand is not line protocol; becomes a LineError, which knows where."""


def _time(stamp: str, unit: int) -> int:
    time = int(stamp) * unit if len(stamp) <= _DIGITS_LIMIT else TIME_LIMIT + 1
    if not -TIME_LIMIT <= time <= TIME_LIMIT:
        raise _Malformed("time outside range -9223372036854775806 - 9223372036854775806")
    return time


def _check_key(key: str, fields: dict[str, FieldValue]) -> None:
    size = len(key.encode()) + 4 + max(len(name.encode()) for name in fields)
    if size > KEY_LIMIT:
        raise _Malformed(f"max key length exceeded: {size} > {KEY_LIMIT}")


def _series(key: str) -> Series:
    measurement, *pairs = (_SEPARATOR.split if "\\" in key else _at_commas)(key)
    measurement = measurement.replace("\\,", ",").replace("\\ ", " ")
    if not pairs:
        return Series(measurement, ())
    tags = dict([_tag(pair) for pair in pairs])
    if len(tags) < len(pairs):
        raise _Malformed("duplicate tags")
    if "time" in tags:
        raise _Malformed(f'invalid tag key: input tag "time" on measurement "{measurement}" is invalid')
    return Series(measurement, tuple(sorted(tags.items())))


def _at_commas(text: str) -> list[str]:
    return text.split(",")


def _unescaped(name: str) -> str:
    """A name without the backslashes before separators; ``re.sub`` takes ten times as long."""
    if "\\" not in name:
        return name
    return name.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ")


def _unescaped_text(quoted: str) -> str:
    """A text field without its quotes and the backslashes before quotes and backslashes."""
    text = quoted[1:-1]
    if "\\" not in text:
        return text
    return "\\".join([part.replace('\\"', '"') for part in text.split("\\\\")])


def _tag(pair: str) -> tuple[str, str]:
    parts = _EQUALS.split(pair) if "\\" in pair else pair.split("=")
    if not parts[0]:
        raise _Malformed("missing tag key")
    if len(parts) == 1 or not parts[1]:
        raise _Malformed("missing tag value")
    if len(parts) > 2:
        raise _Malformed("invalid tag format")
    return _unescaped(parts[0]), _unescaped(parts[1])


def _field_set(text: str) -> dict[str, FieldValue]:
    if "\\" in text or '"' in text:
        pairs = _FIELDS.findall(text)
        fields = {_unescaped(key): _value(raw) for key, raw in pairs}
    else:
        fields = {}
        for pair in text.split(","):
            key, _, raw = pair.partition("=")
            fields[key] = _value(raw)
    if "time" in fields:
        raise _Malformed('invalid field name: input field "time" is invalid')
    return fields


def _value(raw: str) -> FieldValue:
    """Number, boolean or text. Python's own float() and int() would also take ``1_0``, ``nan`` and more."""
    try:
        if not raw.strip("0123456789.+-eE"):
            number = float(raw)
            if number - number == 0:
                return number
        last = raw[-1]
        if last == '"':
            if raw[0] == '"':
                return _unescaped_text(raw)
        elif last in "iu" and not raw[:-1].strip("-0123456789"):
            integer = int(raw[:-1])
            if -(2**63) <= integer < 2**63 if last == "i" else 0 <= integer < 2**64:
                return integer
        elif raw in _BOOLEANS:
            return _BOOLEANS[raw]
    except ValueError:
        pass
    first = raw[0]
    if first in "tTfF":
        raise _Malformed("invalid boolean")
    raise _Malformed("invalid number" if first in "+-.0123456789" else "invalid field format")


def _line_at(text: str, position: int) -> str:
    stop = text.find("\n", position)
    return text[position : stop if stop >= 0 else len(text)].strip(" \t\r")


def _error(text: str, position: int, reason: str) -> LineError:
    return LineError(text.count("\n", 0, position) + 1, _line_at(text, position), reason)


def _reason(line: str) -> str:
    """What is wrong with a line that is not of the form of line protocol at all."""
    key = re.match(_KEY, line)
    if key is None:
        return "missing measurement"
    rest = line[key.end() :].lstrip(" ")
    if not rest:
        return "missing fields"
    while True:
        name = re.match(rf"{_NAME}(?==)", rest)
        if name is None:
            return "missing field key" if rest.startswith("=") else "invalid field format"
        rest = rest[name.end() + 1 :]
        value = re.match(_VALUE, rest, re.DOTALL)
        if value is None:
            return "unbalanced quotes" if rest.startswith('"') else "missing field value"
        rest = rest[value.end() :]
        if not rest.startswith(","):
            return "bad timestamp" if rest.startswith(" ") else "invalid field format"
        rest = rest[1:]
