"""``results.write``: points from user code, as InfluxDB line protocol.

In a job, and in the processes that it starts, this file *is* the module ``cloudburst.results``: it is loaded
by its path into the payload's own interpreter. So it needs the standard library only, imports nothing of
CloudBurst, and its syntax is that of Python 3.8; for the same reason all of it is in one file. What belongs
to numpy and pandas is recognised by what it can do; they are never imported.

Line protocol: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time as clock
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Pattern, Tuple

__all__ = ["write"]

log = logging.getLogger(__name__)

CHUNK_CHARS = 64 * 1024
"""A sink hands on what it holds once it is this much."""

LINE_LIMIT = 64 * 1024
"""Bytes of one line."""

SERIES_NOTED = 100
SERIES_CHARS = 1000
"""Longer names of series are not noted."""

FRAME_ROWS = 10_000
"""Rows of a DataFrame that are encoded at a time."""

Point = Tuple[str, str, int]
"""Measurement with tags, fields, time in nanoseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIME_LIMIT = 2**63 - 2
"""InfluxDB keeps the outermost nanoseconds of 64 bits for itself."""
_FIRST_TIME, _LAST_TIME = -9214560000 * 10**9, 9214646400 * 10**9 - 1
"""The years that it can hold as a whole."""
_OUTSIDE = "outside of the years 1678 to 2261, which is what the database can hold"
_NOT_A_TIME = -(2**63)
"""How numpy and pandas store a missing time."""
_MISSING = ("NAType", "NaTType")
_SPECIAL = re.compile("[,= ]")
_SPECIAL_IN_MEASUREMENT = re.compile("[, ]")
_CONTROL = re.compile("[\x00-\x1f\x7f]")


# -- what users call ------------------------------------------------------------------------------------


def write(measurement: str, fields: Any, tags: Optional[Mapping[str, Any]] = None, time: Any = None) -> None:
    """Write one point, or one point per row of a DataFrame, to the stack's time series database.

    measurement: what was measured, such as ``"pressure"``.
    fields: a dict of numbers, texts and booleans (missing and non-finite numbers are left out), or a
        DataFrame: one field per column, one point per row, the index is the time.
    tags: a dict that tells series apart, such as ``{"node": "101"}``. Each combination of tags is a series
        of its own, and many series slow the database down. But a field does not keep the points of two jobs
        apart that have the same time: see docs/time-series.md.
    time: a datetime (UTC unless it has a time zone), numpy.datetime64, pandas.Timestamp or whole
        nanoseconds since 1970; default now. With a DataFrame whose index is not a date but seconds or
        timedeltas: the time at which these start.

    The job counts as finished only after the database or the worker's disk has its points. A point with the
    same measurement, tags and time replaces the earlier one, so a job that may run twice should give times
    that do not depend on the clock. Outside of a job nothing is written, but mistakes are found all the same.

    The measurements ``result`` and ``cloudburst_...`` are CloudBurst's own. A job writes 1 GiB at most.

    Raises ValueError or TypeError, naming the field, tag or row that cannot be written.
    """
    if isinstance(measurement, str) and (measurement == "result" or measurement.startswith("cloudburst_")):
        raise ValueError(
            "measurement %r: CloudBurst writes this one itself, from what functions return: choose another"
            % measurement
        )
    if isinstance(fields, Mapping):
        points = iter([_point(measurement, fields, tags, time)])
    elif hasattr(fields, "columns") and hasattr(fields, "index"):
        points = _points(measurement, fields, tags, time)
    else:
        raise TypeError(
            "results.write(%r): fields should be a dict or a DataFrame, got %s"
            % (measurement, type(fields).__name__)
        )
    given = time is not None or not isinstance(fields, Mapping)
    if _sinks and _sinks[-1].pid == os.getpid():
        for point in points:
            _sinks[-1].add(point, given)
    elif JOBS_FILE in os.environ:
        _append(points, given)
    else:
        _tell_that_nothing_is_written()
        for point in points:
            _sendable(point)


# -- what the executor calls ----------------------------------------------------------------------------


class Sink:
    """Collects the lines of one job and hands them on in chunks: whole lines, each with its newline.

    Threads of the job may share it. Other processes of the job have no way to the worker: see ``_append``.
    """

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._lines: List[str] = []
        self._chars = 0
        self.series: Dict[str, List[int]] = {}
        """First and last time of each series, of points whose time was given; of the first 100 series."""

    def add(self, point: Point, given: bool = True) -> None:
        """Take one point; one that has no field left is left out. ``given``: its time is not the clock's."""
        series, fields, stamp = point
        if not fields:
            return
        self._take(_sendable(point), series, stamp if given else None)

    def add_written(self, line: str) -> None:
        """Take one line that another process of the job has written with ``_append``."""
        mark, text = line[:1], line[1:].rstrip("\n")
        series = _SERIES.match(text)
        given = int(text.rpartition(" ")[2]) if mark == _GIVEN else None
        self._take(text, series.group() if series else "", given)

    def _take(self, line: str, series: str, given: Optional[int]) -> None:
        with self._lock:
            if given is not None:
                self._note(series, given)
            self._lines.append(line)
            self._chars += len(line) + 1
            if self._chars >= CHUNK_CHARS:
                self._hand_on()

    def _note(self, series: str, stamp: int) -> None:
        known = self.series.get(series)
        if known is not None:
            if stamp < known[0]:
                known[0] = stamp
            elif stamp > known[1]:
                known[1] = stamp
        elif len(self.series) < SERIES_NOTED and len(series) <= SERIES_CHARS:
            self.series[series] = [stamp, stamp]

    def flush(self) -> None:
        """Hand on whatever is left."""
        with self._lock:
            if self._lines:
                self._hand_on()

    def _hand_on(self) -> None:
        text = "\n".join(self._lines) + "\n"
        self._lines, self._chars = [], 0
        self._send(text)


JOBS_FILE = "CLOUDBURST_POINTS"
"""Variable that names the file which processes that a job has started add their points to."""

_GIVEN, _CLOCK = "+", "-"
"""Before each line in it: whether the point's time was given, or is the clock's."""

_SERIES = re.compile(r"(?:\\.|[^ \\])*")


def _append(points: Iterator[Point], given: bool) -> None:
    """Add points of a process that the job has started to the file that the executor reads at the job's end.

    What is written at once into a file that is open for appending stays together.
    """
    mark = _GIVEN if given else _CLOCK
    lines = [mark + _sendable(point) + "\n" for point in points if point[1]]
    if lines:
        with open(os.environ[JOBS_FILE], "ab", buffering=0) as file:
            for begin in range(0, len(lines), 100):
                file.write("".join(lines[begin : begin + 100]).encode("utf-8"))


_sinks: List[Sink] = []
"""Holds the running job's sink, or nothing."""


def install(send: Callable[[str], None]) -> None:
    """From now on ``write`` hands its lines to ``send``, in chunks; one job at a time."""
    _sinks[:] = [Sink(send)]


def uninstall(written: Iterable[str] = ()) -> Dict[str, List[int]]:
    """Hand the rest of the job's lines to its ``send``, and forget it; the ``series`` that it has written.

    ``written``: the lines that other processes of the job have written.
    """
    if not _sinks:
        return {}
    sink = _sinks.pop()
    for line in written:
        sink.add_written(line)
    sink.flush()
    return sink.series


@lru_cache(maxsize=1)
def _tell_that_nothing_is_written() -> None:
    """Log, once per process, that this is not a job."""
    log.info("results.write(): not running in a job, so points are checked but not written")


# -- one point ------------------------------------------------------------------------------------------


def encode(
    measurement: str, fields: Mapping[str, Any], tags: Optional[Mapping[str, Any]] = None, time: Any = None
) -> str:
    """One line of line protocol without newline, times in nanoseconds; "" when no field is left.

    Arguments as for ``write``. Raises ValueError or TypeError.
    """
    point = _point(measurement, fields, tags, time)
    return _sendable(point) if point[1] else ""


def _point(
    measurement: str, fields: Mapping[str, Any], tags: Optional[Mapping[str, Any]], time: Any
) -> Point:
    parts = [_field(_key("field", key), value) for key, value in fields.items()]
    text = ",".join([part for part in parts if part])
    if not text:
        return "", "", 0
    stamp = _now() if time is None else _nanoseconds(time)
    return _series(measurement, tags), text, stamp


def _series(measurement: str, tags: Optional[Mapping[str, Any]]) -> str:
    if not isinstance(measurement, str):
        raise TypeError("measurement: should be a text, got %s" % type(measurement).__name__)
    texts = [(_key("tag", key), _tag_text(value)) for key, value in (tags or {}).items()]
    return _series_text(measurement, tuple(texts))


def _tag_text(value: Any) -> str:
    return "" if value is None or type(value).__name__ in _MISSING else str(value)


@lru_cache(maxsize=1024)
def _series_text(measurement: str, tags: Tuple[Tuple[str, str], ...]) -> str:
    """Measurement and tags, in the order that InfluxDB likes best; empty tags do not exist for it."""
    if measurement.startswith("#"):
        raise ValueError("measurement %r: a leading '#' would make the line a comment" % measurement)
    parts = [_escaped("measurement", measurement, _SPECIAL_IN_MEASUREMENT)]
    parts += [key + "=" + _escaped("tag " + key, text, _SPECIAL) for key, text in sorted(tags) if text]
    return ",".join(parts)


@lru_cache(maxsize=4096)
def _key(what: str, key: Any) -> str:
    """A tag's or field's name, escaped."""
    if not isinstance(key, str):
        raise TypeError("%s %r: the name should be a text, got %s" % (what, key, type(key).__name__))
    if key == "time":
        raise ValueError("%s 'time': the database keeps this name for the time of the point" % what)
    return _escaped("name of a " + what, key, _SPECIAL)


def _escaped(what: str, text: str, special: Pattern[str]) -> str:
    """``text`` with a backslash before what is special; ValueError for what line protocol cannot carry."""
    if not text:
        raise ValueError("%s: should not be empty" % what)
    control = _CONTROL.search(text)
    if control:
        raise ValueError("%s: %r contains the control character %r" % (what, text, control.group()))
    if text.endswith("\\"):
        raise ValueError("%s: %r ends with a backslash, which line protocol cannot carry" % (what, text))
    return special.sub(r"\\\g<0>", text)


def _field(key: str, value: Any) -> str:
    """``key=value`` for an escaped key; "" for a missing or non-finite value."""
    if isinstance(value, float):
        # numpy.float64 is a float whose repr() is not a number.
        return key + "=" + float.__repr__(value) if value - value == 0 else ""
    if isinstance(value, bool):
        return key + "=true" if value else key + "=false"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError("field %s: %d does not fit into 64 bits; write it as a float" % (key, value))
        return "%s=%di" % (key, value)
    if isinstance(value, str):
        return '%s="%s"' % (key, value.replace("\\", "\\\\").replace('"', '\\"'))
    if value is None or type(value).__name__ in _MISSING:
        return ""
    return _field(key, _plain(key, value))


def _plain(key: str, value: Any) -> Any:
    """The Python number, boolean or text within a numpy scalar, a Decimal and the like."""
    for convert in (_item, float):
        try:
            plain = convert(value)
        except (AttributeError, TypeError, ValueError):
            continue
        if isinstance(plain, (bool, int, float, str)):
            return plain
    raise TypeError("field %s: should be a number, a text or a boolean, got %s" % (key, type(value).__name__))


def _item(value: Any) -> Any:
    return value.item()


def _sendable(point: Point) -> str:
    """The line. Refuses what has no UTF-8 encoding, half of a surrogate pair, and what is too long."""
    line = "%s %s %d" % point
    size = len(line) if line.isascii() else len(line.encode("utf-8"))
    if size > LINE_LIMIT:
        raise ValueError(
            "a point of measurement %s has %d bytes as a line, the limit is %d: write less per point"
            % (point[0].split(",")[0][:100], size, LINE_LIMIT)
        )
    return line


# -- times ----------------------------------------------------------------------------------------------

_latest = [0]
_latest_lock = threading.Lock()


def _now() -> int:
    """Now in nanoseconds, never the same twice: two points of a series must not share a time."""
    with _latest_lock:
        _latest[0] = max(clock.time_ns(), _latest[0] + 1)
        return _latest[0]


def _nanoseconds(time: Any) -> int:
    """Nanoseconds since 1970 of any kind of time that ``write`` takes."""
    stamp = time if type(time) is int else _converted(time)
    if stamp == _NOT_A_TIME:
        raise ValueError("time: is missing (NaT)")
    if not _FIRST_TIME <= stamp <= _LAST_TIME:
        raise ValueError("time: %r is %s" % (time, _OUTSIDE))
    return stamp


def _converted(time: Any) -> int:
    if isinstance(time, datetime):
        if type(time).__name__ in _MISSING:
            return _NOT_A_TIME
        # A pandas.Timestamp is a datetime with nanoseconds besides.
        return _since_epoch(time) + int(getattr(time, "nanosecond", 0))
    kind = getattr(getattr(time, "dtype", None), "kind", "")
    if kind == "M":
        rough = int(time.astype("datetime64[us]").astype("int64"))
        if not -_TIME_LIMIT <= rough * 1000 <= _TIME_LIMIT:
            return _NOT_A_TIME if rough == _NOT_A_TIME else rough * 1000
        return int(time.astype("datetime64[ns]").astype("int64"))
    if kind in ("i", "u"):
        return int(time)
    raise TypeError(
        "time: should be a datetime or whole nanoseconds since 1970, got %s %r" % (type(time).__name__, time)
    )


def _since_epoch(time: datetime) -> int:
    aware = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    return (aware - _EPOCH) // timedelta(microseconds=1) * 1000


# -- DataFrames -----------------------------------------------------------------------------------------


def encode_frame(
    measurement: str, frame: Any, tags: Optional[Mapping[str, Any]] = None, time: Any = None
) -> Iterator[str]:
    """One line per row of a pandas DataFrame: the index is the time, the columns are the fields.

    An index of seconds (whole or not) or of timedeltas counts from ``time``. Rows without any field are
    left out. Raises TypeError for an index that holds no times, ValueError for columns of the same name.
    """
    return map(_sendable, _points(measurement, frame, tags, time))


def _points(measurement: str, frame: Any, tags: Optional[Mapping[str, Any]], time: Any) -> Iterator[Point]:
    series = _series(measurement, tags)
    names = [str(column) for column in frame.columns]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError("DataFrame: more than one column is called %r" % sorted(twice)[0])
    keys = [_key("field", name) for name in names]
    for begin in range(0, len(frame), FRAME_ROWS):
        part = frame.iloc[begin : begin + FRAME_ROWS]
        try:
            stamps = _index_times(part.index, time)
        except ValueError as error:
            if type(error).__name__.startswith("OutOfBounds"):  # as pandas says it
                raise ValueError("DataFrame: its index has times %s (%s)" % (_OUTSIDE, error)) from error
            raise
        columns = [_column(key, part.iloc[:, number].tolist()) for number, key in enumerate(keys)]
        for row, stamp in enumerate(stamps):
            text = ",".join([column[row] for column in columns if column[row]])
            if not _FIRST_TIME <= stamp <= _LAST_TIME:
                what = "missing (NaT)" if stamp == _NOT_A_TIME else _OUTSIDE
                raise ValueError("DataFrame: the time of row %d is %s" % (begin + row, what))
            if text:
                yield series, text, stamp


def _column(key: str, values: List[Any]) -> List[str]:
    return [_field(key, value) for value in values]


def _index_times(index: Any, start: Any) -> List[int]:
    if hasattr(index, "to_timestamp"):  # a PeriodIndex
        index = index.to_timestamp()
    kind = getattr(getattr(index, "dtype", None), "kind", "")
    if kind == "M":
        if start is not None:
            raise ValueError("time: the index of the DataFrame holds the times already; leave time out")
        return _in_nanoseconds(index)
    if start is None or kind not in ("m", "i", "u", "f"):
        raise TypeError(
            "DataFrame: the index should hold the times, but is %s. Set a DatetimeIndex, or, when the index "
            "counts seconds, give the time at which they start: write(..., time=start)"
            % getattr(index, "dtype", type(index).__name__)
        )
    origin = _nanoseconds(start)
    offsets = _in_nanoseconds(index) if kind == "m" else [_seconds(value) for value in index.tolist()]
    return [_NOT_A_TIME if offset == _NOT_A_TIME else _nanoseconds(origin + offset) for offset in offsets]


def _seconds(value: Any) -> int:
    if value - value != 0:
        return _NOT_A_TIME
    return value * 10**9 if isinstance(value, int) else round(value * 1e9)


def _in_nanoseconds(index: Any) -> List[int]:
    """Values of a DatetimeIndex or TimedeltaIndex; since pandas 2 its unit may be other than ns."""
    if not hasattr(index, "asi8"):  # kept by pyarrow
        return [value.value for value in index]
    if hasattr(index, "as_unit"):
        index = index.as_unit("ns")
    stamps: List[int] = index.asi8.tolist()
    return stamps
