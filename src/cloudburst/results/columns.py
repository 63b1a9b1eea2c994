"""The columns of a results table: the description's parameters beside the returned values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cloudburst.model import JobRecord

BEFORE = ("index", "state")
"""Columns that stand before the parameters and the returned values."""

AFTER = ("attempt", "node", "started_at", "duration_s", "error", "fingerprint")
"""Columns that stand behind them."""

PAYLOAD = "payload"
"""The last column, where the records come from more than one payload; None for a job that never ran."""

SINGLE = "value"
"""The column of a returned value that is not a dict."""

EXACT_IN_FLOAT = 2**53
"""Floats cannot hold all whole numbers beyond it."""


class Columns:
    """Learns from records which columns there are; the same ones in whatever order the records come."""

    def __init__(self) -> None:
        self._parameters: dict[str, _Seen] = {}
        self._returned: dict[str, _Seen] = {}
        self._named: tuple[dict[str, str], dict[str, str]] | None = None
        self._payloads: set[str] = set()

    def learn(self, record: JobRecord) -> None:
        self._named = None
        if record.payload:
            self._payloads.add(record.payload)
        _learn(self._parameters, record.description, record.index)
        _learn(self._returned, returned(record), record.index)

    def names(self) -> list[str]:
        """All columns from left to right; parameters and returned values in the order of the jobs."""
        parameters, values = self._names()
        return [*BEFORE, *parameters.values(), *values.values(), *self._after()]

    def cells(self, records: Collection[JobRecord]) -> Iterator[tuple[str, list[Any]]]:
        """Each column of ``records`` with its values; None where a job has no such value."""
        parameters, values = self._names()
        yield "index", [record.index for record in records]
        yield "state", [record.state for record in records]
        for key, name in parameters.items():
            yield name, [record.description.get(key) for record in records]
        flat = [returned(record) for record in records]
        for key, name in values.items():
            yield name, [row.get(key) for row in flat]
        for name in self._after():
            yield name, [after(record, name) for record in records]

    def inexact(self, rows: int) -> set[str]:
        """Columns whose whole numbers would lose digits as floats, which they become beside gaps."""
        pairs = zip(self._names(), (self._parameters, self._returned), strict=True)
        return {
            name
            for names, seen in pairs
            for key, name in names.items()
            if seen[key].large and seen[key].whole < rows
        }

    def _after(self) -> tuple[str, ...]:
        return (*AFTER, PAYLOAD) if len(self._payloads) > 1 else AFTER

    def _names(self) -> tuple[dict[str, str], dict[str, str]]:
        """The column names of parameters and of returned values, by their keys."""
        if self._named is None:
            taken = {*BEFORE, *self._after()}
            parameters = _named(self._parameters, taken, "_parameter")
            self._named = parameters, _named(self._returned, taken, "_returned")
        return self._named


class _Seen:
    """One key: where it first stands in the order of jobs, and what whole numbers it has."""

    __slots__ = ("large", "place", "whole")

    def __init__(self) -> None:
        self.place: tuple[float, int] = (float("inf"), 0)
        self.whole = 0
        """How many are whole numbers of 64 bits."""
        self.large = False
        """One is beyond what a float holds exactly."""


def returned(record: JobRecord) -> Mapping[str, Any]:
    """What the job returned as columns: a dict is taken apart (one level), anything else is one value."""
    if isinstance(record.value, dict):
        return record.value
    return {} if record.value is None else {SINGLE: record.value}


def after(record: JobRecord, name: str) -> Any:
    """The value of one of the last columns; times are UTC, None when the job never started."""
    if name == PAYLOAD:
        return record.payload or None
    if name == "started_at":
        return _moment(record.started_at)
    return getattr(record, name)


def _moment(unix_s: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(unix_s, UTC) if unix_s else None
    except (ValueError, OverflowError, OSError):  # no clock says so
        return None


def _learn(seen: dict[str, _Seen], values: Mapping[str, Any], index: int) -> None:
    for position, (key, value) in enumerate(values.items()):
        column = seen.get(key)
        if column is None:
            column = seen[key] = _Seen()
        if index <= column.place[0]:
            column.place = (index, position)
        if type(value) is int:
            column.whole += -(2**63) <= value < 2**63
            column.large = column.large or abs(value) > EXACT_IN_FLOAT


def _named(seen: Mapping[str, _Seen], taken: set[str], suffix: str) -> dict[str, str]:
    """A column name for each key; one that is taken already gets the suffix."""
    names = {}
    for key in sorted(seen, key=lambda key: seen[key].place):
        # A lone surrogate is legal in JSON, and in no file of a table.
        name = key.encode("utf-8", "backslashreplace").decode()
        while name in taken:
            name += suffix
        taken.add(name)
        names[key] = name
    return names
