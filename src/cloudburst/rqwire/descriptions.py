"""Job descriptions as JSON: what is stored is what was meant, or the error names the job and the key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cloudburst import names
from cloudburst.errors import EnsembleError
from cloudburst.nested import DEPTH_LIMIT

_SCALARS = (str, int, float, bool, type(None))
_INSTEAD = {
    "datetime": "give text, such as .isoformat()",
    "date": "give text, such as .isoformat()",
    "Timestamp": "give text, such as .isoformat()",
    "datetime64": "give text, such as str(...)",
    "timedelta": "give seconds, such as .total_seconds()",
    "timedelta64": "give seconds, such as value / numpy.timedelta64(1, 's')",
    "set": "give a list, such as sorted(...)",
    "frozenset": "give a list, such as sorted(...)",
    "bytes": "give text, such as .decode() or .hex()",
    "DataFrame": 'give a dict or a list, such as .to_dict("records")',
    "Series": "give a dict or a list, such as .to_dict() or .tolist()",
    "range": "give a list, such as list(...)",
    "generator": "give a list, such as list(...)",
    "Decimal": "give float(...) or str(...)",
    "PosixPath": "give text, such as str(...)",
}
"""What to do about values that JSON has no form for, by the names of their types."""


class _NotJson(Exception):
    """A value that JSON has no form for, and where in the description it stands."""


def encode_description(description: Any, index: int) -> bytes:
    """JSON of one job description; numpy scalars and arrays become numbers and lists.

    Raises EnsembleError naming the job's index and the key when it is not an object, not JSON, or too large.
    """
    if not isinstance(description, dict):
        kind = type(description).__name__
        raise EnsembleError(
            f"job {index}: a job description is a JSON object (a dict), got {kind}: {description!r:.80}"
        )
    try:
        plain = description if _is_flat(description) else _plain(description, "", 1)
        encoded = _ENCODER.encode(plain).encode()
    except (_NotJson, ValueError) as error:
        raise EnsembleError(f"job {index}: its description is not JSON ({error})") from error
    if len(encoded) > names.DESCRIPTION_LIMIT_BYTES:
        raise EnsembleError(
            f"job {index}: its description has {len(encoded):,} bytes, the limit is "
            f"{names.DESCRIPTION_LIMIT_BYTES:,}: put large inputs into the file store and their names here"
        )
    return encoded


def _is_flat(description: dict[Any, Any]) -> bool:
    """Whether it has text for keys, and values that need no look: most have, and are a million."""
    return all(type(key) is str and type(value) in _SCALARS for key, value in description.items())


def _plain(value: Any, where: str, depth: int) -> Any:
    """``value`` made of what JSON has a form for (_NotJson: what, and where, has none)."""
    if type(value) in _SCALARS:
        return value
    if depth > DEPTH_LIMIT:
        raise _NotJson(f"{_place(where)}: lists and dicts are nested more than {DEPTH_LIMIT} deep")
    if isinstance(value, dict):
        return dict(_items(value, where, depth))
    if isinstance(value, list | tuple):
        if all(type(item) in _SCALARS for item in value):
            return value
        return [_plain(item, f"{where}[{place}]", depth + 1) for place, item in enumerate(value)]
    if isinstance(value, str | int | float):  # a subclass, such as an IntEnum or numpy.float64
        return value
    if hasattr(value, "tolist") and not _means_more(value):  # numpy's scalars and arrays, and their like
        plain = value.tolist()
        return float(value) if type(plain) is type(value) else _plain(plain, where, depth)  # a longdouble
    kind = type(value).__name__
    raise _NotJson(f"{_place(where)}: {kind} cannot be written as JSON: {_instead(kind)}")


def _items(value: dict[Any, Any], where: str, depth: int) -> Iterator[tuple[str, Any]]:
    seen: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str | int | float | None):
            kind = type(key).__name__
            raise _NotJson(f"{_place(where)}: the key {key!r:.60} is {kind}: keys are texts in JSON")
        text = key if isinstance(key, str) else next(iter(json.loads(json.dumps({key: 0}))))
        if text in seen:
            raise _NotJson(f"{_place(where)}: the keys {seen[text]!r} and {key!r} are the same in JSON")
        seen[text] = key
        yield text, _plain(item, f"{where}.{text}" if where else text, depth + 1)


def _means_more(value: Any) -> bool:
    """Whether its plain form would be another thing: bare integers for times, no labels, no names."""
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ == "Series" or getattr(dtype, "kind", "f") not in "biufUO"


def _place(where: str) -> str:
    return repr(where)[:80] if where else "it"


def _instead(kind: str) -> str:
    return _INSTEAD.get(kind, "give numbers, text, lists and dicts")


# Made once: json.dumps() makes a new one for each call, which is a third of its time.
_ENCODER = json.JSONEncoder(separators=(",", ":"))
