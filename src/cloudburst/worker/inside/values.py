"""What comes into a function and what comes out of it, as bytes.

What a function returns is converted in one place, so that it comes back as it was or is refused at once:

===================================================  =====================================================
returned                                             stored as
===================================================  =====================================================
None, booleans, texts                                themselves
whole numbers, of up to 4,300 digits                 themselves
floats, also NaN and infinite ones                   themselves; ``NaN``, ``Infinity`` and ``-Infinity`` are
                                                     in the JSON as Python writes and reads it
numpy's numbers, long doubles, Decimal, Fraction     a whole number, or the nearest float
dates and times, of Python, numpy and pandas         ISO 8601: ``2024-01-31``, ``2024-01-31T06:00:00``
lengths of time, alike                               ISO 8601: ``PT3600S``, ``PT0.25S``; ``P3M`` of months
missing values of pandas and numpy (NA, NaT)         null
lists, tuples, numpy arrays, pandas' indexes         lists
dicts, pandas' Series                                dicts; their keys become texts as values do, and no two
                                                     may become the same
===================================================  =====================================================
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import json
import math
import pickle
import re
from collections.abc import Mapping
from typing import Any, Callable, Dict, List, Tuple

from .frames import DEPTH_LIMIT, VALUE_LIMIT

DIGITS = 4300
"""Python reads no longer whole number from a text."""

_MISSING = ("NAType", "NaTType")
_SECONDS = {
    "W": 604800 * 10**18,
    "D": 86400 * 10**18,
    "h": 3600 * 10**18,
    "m": 60 * 10**18,
    "s": 10**18,
    "ms": 10**15,
    "us": 10**12,
    "ns": 10**9,
    "ps": 10**6,
    "fs": 10**3,
    "as": 1,
}
"""Units of numpy.timedelta64, in attoseconds."""


_JSON = json.JSONEncoder(separators=(",", ":"))


class Refused(Exception):
    """The job's data is nothing that this executor runs, or the returned value nothing that it stores."""


def decode(data: bytes, allow_pickle: bool) -> tuple[str, list[Any], dict[str, Any]]:
    """Function name, args and kwargs of job data (Refused when it may not be read)."""
    if data[:1] == b"\x80":
        if not allow_pickle:
            raise Refused(
                "this stack does not run pickled jobs: enqueue with Queue(..., serializer=JSONSerializer) "
                "from rq.serializers"
            )
        call = pickle.loads(data)
    else:
        try:
            call = json.loads(data)
        except (ValueError, RecursionError):
            raise Refused(
                "the job's data is neither JSON nor a pickle; it begins with %r" % data[:40]
            ) from None
    try:
        name, instance, args, kwargs = call
    except (TypeError, ValueError):
        raise Refused("the job's data is not [function, null, [arguments], {}]") from None
    if instance is not None or not isinstance(name, str):
        raise Refused(
            "only functions named as text can be run, such as 'worker.work', not methods of objects"
        )
    if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
        raise Refused("the job's data is not [function, null, [arguments], {}]")
    return name, list(args), kwargs


def plain(value: Any) -> Any:
    """What the function returned as JSON has it (Refused when JSON cannot have it, or if it is too large)."""
    try:
        return _Conversion().plain(value, 0)
    except _TooLarge:
        raise Refused(
            "what the function returned has more than {:,} bytes as JSON, which is the limit: write large "
            "results as points (cloudburst.results.write) or to a file store".format(VALUE_LIMIT)
        ) from None
    except _Odd as odd:
        place = "/".join(map(str, reversed(odd.path)))[:200]
        raise Refused(
            "what the function returned is not JSON (%s%s): %s"
            % (odd.what, " at " + place if place else "", odd.advice)
        ) from None


def encode(value: Any) -> bytes:
    """A plain value as JSON (Refused when it is too large)."""
    body = _JSON.encode(value).encode()
    if len(body) > VALUE_LIMIT:
        raise Refused(
            "what the function returned has {:,} bytes as JSON, the limit is {:,}: write large results as "
            "points (cloudburst.results.write) or to a file store".format(len(body), VALUE_LIMIT)
        )
    return body


class _TooLarge(Exception):
    pass


class _Odd(Exception):
    """Something in the value cannot be stored."""

    def __init__(self, what: str, advice: str = "return numbers, text, lists and dicts") -> None:
        self.what = what
        self.advice = advice
        self.path: List[Any] = []


class _Conversion:
    """One value's; its work and memory are bounded by what may be stored."""

    def __init__(self) -> None:
        self._room = VALUE_LIMIT

    def plain(self, value: Any, depth: int) -> Any:
        self._take(1)
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if kind is str:
            return self._text(value)
        if kind is int:
            return self._whole(value)
        if depth >= DEPTH_LIMIT:
            raise _Odd("nested deeper than %d" % DEPTH_LIMIT, "return something flatter")
        if isinstance(value, Mapping):
            return self._mapping(value.items(), depth)
        if isinstance(value, (list, tuple)):
            return self._list(value, depth)
        return self._converted(value, depth)

    def _converted(self, value: Any, depth: int) -> Any:
        if type(value).__name__ in _MISSING:
            return None
        conversions: List[Tuple[Any, Callable[[Any], Any]]] = [
            (str, lambda text: self._text(str.__str__(text))),
            (float, float),
            (int, lambda number: self._whole(int(number))),
            ((datetime.date, datetime.time), lambda time: self._text(time.isoformat())),
            (datetime.timedelta, _length),
            ((decimal.Decimal, fractions.Fraction), _nearest),
        ]
        for kinds, convert in conversions:
            if isinstance(value, kinds):
                return convert(value)
        return self._of_a_library(value, depth)

    def _of_a_library(self, value: Any, depth: int) -> Any:
        """What belongs to a library is recognised by what it can do."""
        dtype = getattr(value, "dtype", None)
        if hasattr(value, "columns") and hasattr(value, "index"):
            raise _Odd(
                "a DataFrame",
                "write it as points (cloudburst.results.write), or return frame.to_dict('list')",
            )
        if hasattr(value, "items") and hasattr(value, "index") and dtype is not None:  # a Series
            self._size(value)
            return self._mapping(value.items(), depth)
        if getattr(dtype, "names", None):
            raise _Odd("a structured array", "return a dict with a list for each of its fields")
        shape = getattr(value, "shape", None)
        if getattr(dtype, "kind", "") in ("m", "M"):
            return self._list(value, depth) if shape else self._time(value)
        if hasattr(value, "tolist"):
            self._size(value)
            inner = value.tolist()
            if type(inner) is not type(value):
                return self.plain(inner, depth + 1 if shape else depth)
            if getattr(dtype, "kind", "") == "f":  # a long double
                return _nearest(value)
        raise _Odd("%s found in it" % type(value).__name__)

    def _take(self, room: int) -> None:
        self._room -= room
        if self._room < 0:
            raise _TooLarge

    def _size(self, value: Any) -> None:
        """Refuse what is too large before it is taken apart."""
        size = getattr(value, "size", 0)
        if isinstance(size, int) and size > self._room:
            raise _TooLarge

    def _text(self, text: str) -> str:
        self._take(len(text))
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise _Odd(
                    "a text that is no Unicode, %r" % text[:80],
                    "names of files may be so; return repr(name)",
                ) from None
        return text

    def _whole(self, number: int) -> int:
        if number.bit_length() > DIGITS * 3:
            if number.bit_length() > DIGITS * 4 or abs(number) >= 10**DIGITS:
                raise _Odd("a whole number of more than %d digits" % DIGITS, "return it as a text")
            self._take(DIGITS)
        return number

    def _list(self, values: Any, depth: int) -> List[Any]:
        found: List[Any] = []
        try:
            for value in values:
                found.append(self.plain(value, depth + 1))
        except _Odd as odd:
            odd.path.append(len(found))
            raise
        return found

    def _mapping(self, items: Any, depth: int) -> Dict[str, Any]:
        found: Dict[str, Any] = {}
        key: Any = ""
        for key, value in items:
            try:
                name = key if type(key) is str and self._text(key) is key else self._key(key)
                if name in found:
                    raise _Odd("two keys that are %r as text" % name, "name them differently")
                found[name] = self.plain(value, depth + 1)
            except _Odd as odd:
                odd.path.append(key if isinstance(key, (str, int)) else type(key).__name__)
                raise
        return found

    def _key(self, key: Any) -> str:
        if isinstance(key, (list, tuple, Mapping)):
            raise _Odd("a key that is a %s" % type(key).__name__, "make it a text")
        name = self.plain(key, 0)
        if isinstance(name, (list, dict)):
            raise _Odd("a key that is a %s" % type(key).__name__, "make it a text")
        return name if isinstance(name, str) else json.dumps(name)

    def _time(self, value: Any) -> Any:
        """Of a numpy.datetime64 or numpy.timedelta64."""
        text = str(value)
        if text == "NaT":
            return None
        if value.dtype.kind == "M":
            return text
        count, unit = (
            re.findall(r"\[(\d*)(\w+)\]", value.dtype.str)[0] if "[" in value.dtype.str else ("", "")
        )
        whole = int(value.astype("int64")) * int(count or 1)
        if unit in ("Y", "M"):
            return "P%d%s" % (whole, unit)
        if unit not in _SECONDS:
            raise _Odd("a timedelta64 without a unit", "give it one")
        return _duration(whole * _SECONDS[unit])


def _nearest(value: Any) -> float:
    """The nearest float; what is finite stays so."""
    try:
        nearest = float(value)
    except (OverflowError, ValueError):
        nearest = math.inf
    if math.isinf(nearest) and not re.match("-?inf", str(value), re.IGNORECASE):
        raise _Odd("%s beyond the range of floats" % type(value).__name__, "return it as a text")
    return nearest


def _length(value: Any) -> str:
    """Of a timedelta; one of pandas has nanoseconds besides."""
    whole = value // datetime.timedelta(microseconds=1) * 1000 + int(getattr(value, "nanoseconds", 0))
    return _duration(whole * 10**9)


def _duration(attoseconds: int) -> str:
    """A length of time in ISO 8601, in seconds."""
    whole, part = divmod(abs(attoseconds), 10**18)
    text = "%d.%018d" % (whole, part)
    return "%sPT%sS" % ("-" if attoseconds < 0 else "", text.rstrip("0").rstrip("."))
