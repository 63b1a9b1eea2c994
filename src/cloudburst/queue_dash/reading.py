"""Reads what RQ's serializers wrote, JSON or pickle, without ever running a pickle.

A pickle is a program: it names functions and has them called. Here every name stands for an inert
``Unread``, so plain data (numbers, texts, lists, dicts) comes out whole and anything else becomes a text
such as ``<numpy.ndarray, not shown>``. What comes out is always JSON, since rq-dashboard shows it as JSON.
"""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

LARGEST = 10_000
"""Values shown of one object. Nested lists that share their parts can unfold without end."""


class Unread:
    """Stands for an object that would take running a pickle; every step of unpickling leaves it as it is."""

    name = "pickled object"

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Unread:
        return super().__new__(cls)

    def __call__(self, *_args: Any, **_kwargs: Any) -> Unread:
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


class Unreadable(str):
    """Says that data cannot be read. RQ takes job data apart into four values: they say it then."""

    def __iter__(self) -> Iterator[Any]:
        return iter((str(self), None, (), {}))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[Unread]:
        return type("Unread", (Unread,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Unread:
        return Unread()


def loads(data: bytes) -> Any:
    """The value in ``data`` as JSON-compatible objects; ``Unreadable`` if it is neither JSON nor pickle."""
    try:
        return _Plain().of(json.loads(data))
    except (ValueError, RecursionError):
        pass
    try:
        return _Plain().of(_Unpickler(io.BytesIO(data)).load())
    except Exception as error:  # noqa: BLE001 - a broken pickle raises whatever it likes
        return Unreadable(f"<{len(data)} bytes that cannot be read: {type(error).__name__}>")


class _Plain:
    """Makes one value JSON-compatible, up to ``LARGEST`` parts."""

    def __init__(self) -> None:
        self._left = LARGEST

    def of(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            return "..."
        match value:
            case None | bool() | int() | str():
                return value
            case float():
                return value if math.isfinite(value) else str(value)
            case dict():
                return {str(self.of(key)): self.of(part) for key, part in self._some(value.items())}
            case list() | tuple() | set() | frozenset():
                return [self.of(part) for part in self._some(value)]
        return f"<{_named(value)}>"

    def _some(self, parts: Iterable[Any]) -> Iterator[Any]:
        for part in parts:
            if self._left <= 0:
                return
            yield part


def _named(value: Any) -> str:
    match value:
        case bytes() | bytearray():
            return f"{len(value)} bytes"
        case type() if issubclass(value, Unread):
            return value.name
        case Unread():
            return f"{value.name}, not shown"
    return f"{type(value).__name__}, not shown"
