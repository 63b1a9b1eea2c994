"""Answers SELECT from the store: the series that InfluxDB would give, within limits of work and memory."""

from __future__ import annotations

import json
import operator
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cloudburst.points.influxql import functions
from cloudburst.points.influxql.functions import Points
from cloudburst.points.influxql.syntax import (
    SELECTORS,
    Call,
    Comparison,
    QueryError,
    Select,
    Value,
    operands,
    outside,
)
from cloudburst.points.parse import TIME_LIMIT
from cloudburst.points.store import Selection, Store

BUCKETS_LIMIT = 250_000
"""Intervals of one query, as on a swarm."""

POINTS_LIMIT = 2_000_000
"""Points that are read for one request; a million take about four seconds."""

KEPT_LIMIT = 4_000_000
"""Values that one request holds in memory, one for each 16 characters of a text."""

SECONDS_LIMIT = 10.0

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Budget:
    """What one request may still read, hold and take. Raises QueryError at the end of it."""

    def __init__(self) -> None:
        self._points, self._kept = POINTS_LIMIT, KEPT_LIMIT
        self._deadline = time.monotonic() + SECONDS_LIMIT

    def read(self, points: int) -> None:
        self._points -= points
        if self._points < 0:
            raise self._ended(f"it reads more than {POINTS_LIMIT:,} points")
        self.keep(0)

    def keep(self, values: int) -> None:
        self._kept -= values
        if self._kept < 0:
            raise self._ended(f"it needs more than {KEPT_LIMIT:,} values in memory")
        if time.monotonic() > self._deadline:
            raise self._ended(f"it takes more than {SECONDS_LIMIT:.0f} s")

    def _ended(self, why: str) -> QueryError:
        return QueryError(
            f"the query is too large for a local stack, {why}: say a shorter range of time, or tags"
        )


@dataclass
class Series:
    """Rows of one group: a time, and a value for each column."""

    tags: dict[str, str]
    rows: list[tuple[int, list[Value]]] = field(default_factory=list)


Row = tuple[dict[str, str], int, dict[str, Value]]
"""Tags, time and fields of a point."""


def select(store: Store, query: Select, budget: Budget, now: int) -> list[Series]:
    """The series that are found, in InfluxDB's order; none without rows."""
    rows = _rows(store, query, budget, now)
    found = _computed(query, rows, budget, now) if query.calls else _raw(query, rows, budget)
    for series in found:
        series.rows.sort(key=lambda row: row[0], reverse=query.descending)
        series.rows = series.rows[: query.limit or None]
    found.sort(key=lambda series: list(series.tags.values()), reverse=query.descending)
    return [series for series in found if series.rows]


def column_names(query: Select) -> list[str]:
    """InfluxDB's: aliases as they are, others made different from them and from each other."""
    counts = {alias: 1 for _, alias in query.columns if alias}
    names = []
    for expression, alias in query.columns:
        name = alias
        if not alias:
            used = operands(expression)
            name = plain = "_".join(one if isinstance(one, str) else one.function for one in used)
            while name in counts:
                name = f"{plain}_{counts[plain]}"
                counts[plain] += 1
            counts[name] = 1
        names.append(name)
    return names


# -- points ---------------------------------------------------------------------------------------------


def _rows(store: Store, query: Select, budget: Budget, now: int) -> Iterator[Row]:
    """What the query asks for, before anything is computed: from the store, or from its subquery."""
    if isinstance(query.source, Select):
        fields = set(column_names(query.source))
        rows = _of_subquery(store, query.source, budget, now)
    else:
        fields = {name for _, name, _ in store.fields(query.source)}
        rows = _of_store(store, query, fields, budget, now)
    conditions = [one for one in query.conditions if one.name in fields or isinstance(query.source, Select)]
    unknown = {one if isinstance(one, str) else one.field for one in query.operands} - fields
    for row in rows:
        if unknown and not unknown.isdisjoint(row[0]):
            raise outside("a tag among what is selected")
        if not conditions or all(_holds(one, row[2].get(one.name)) for one in conditions):
            yield row


def _of_subquery(store: Store, query: Select, budget: Budget, now: int) -> Iterator[Row]:
    names = column_names(query)
    for series in select(store, query, budget, now):
        budget.read(len(series.rows))
        for moment, values in series.rows:
            yield series.tags, moment, dict(zip(names, values, strict=True))


def _of_store(store: Store, query: Select, fields: set[str], budget: Budget, now: int) -> Iterator[Row]:
    wanted = [one for one in query.conditions if one.name not in fields]
    if any(not isinstance(one.value, str) or one.operator not in ("=", "!=") for one in wanted):
        return  # a tag is a text, and neither larger nor smaller than anything
    tags = {one.name: str(one.value) for one in wanted if one.operator == "=" and one.value}
    start, end = _span(query, now)
    for page in store.pages(Selection(query.measurement, tags, start, end)):
        budget.read(len(page.rows))
        of_series = json.loads(page.tags)
        if all(_holds(one, of_series.get(one.name, "")) for one in wanted):
            values = json.loads(f"[{','.join([fields for _, fields in page.rows])}]")
            for (moment, _), of_point in zip(page.rows, values, strict=True):
                yield of_series, moment, of_point


def _span(query: Select, now: int) -> tuple[int, int]:
    start = -TIME_LIMIT if query.start is None else query.start
    if any(isinstance(call.argument, Call) for call in query.calls):
        start = max(start - query.interval, -TIME_LIMIT)  # the first value differs from the one before
    if query.end is not None:
        return start, query.end
    return start, now if query.interval else TIME_LIMIT + 1


def _holds(condition: Comparison, value: Value) -> bool:
    wanted = condition.value
    if isinstance(wanted, str | bool):
        fits = type(value) is type(wanted) and condition.operator in ("=", "!=")
    else:
        fits = type(value) in (int, float)
    return fits and _OPERATORS[condition.operator](value, wanted)


# -- rows of the answer ---------------------------------------------------------------------------------


def _group(query: Select, tags: dict[str, str]) -> tuple[str, ...]:
    return tuple([tags.get(tag, "") for tag in query.tags])


def _series(query: Select, group: tuple[str, ...]) -> Series:
    return Series(dict(zip(query.tags, group, strict=True)))


def _raw(query: Select, rows: Iterator[Row], budget: Budget) -> list[Series]:
    """Points as they are; with a limit, no more of them are held than twice as many."""
    groups: dict[tuple[str, ...], Series] = {}
    names = [one for one in query.operands if isinstance(one, str)]
    for tags, moment, fields in rows:
        known = {name: fields.get(name) for name in names}
        if all(value is None for value in known.values()):
            continue
        group = _group(query, tags)
        series = groups.get(group) or groups.setdefault(group, _series(query, group))
        values = [functions.computed(expression, known) for expression, _ in query.columns]
        budget.keep(_cost(values))
        series.rows.append((moment, values))
        if query.limit and len(series.rows) >= 2 * query.limit + 1000:
            series.rows.sort(key=lambda row: row[0], reverse=query.descending)
            budget.keep(-sum(_cost(values) for _, values in series.rows[query.limit :]))
            del series.rows[query.limit :]
    return list(groups.values())


def _cost(values: list[Value]) -> int:
    return 2 + sum(1 + len(value) // 16 if isinstance(value, str) else 1 for value in values)


def _computed(query: Select, rows: Iterator[Row], budget: Budget, now: int) -> list[Series]:
    """What functions give: one row of each group, or of each interval in it."""
    names = sorted({call.field for call in query.calls})
    start, end = _span(query, now)
    interval = query.interval
    if interval and start - start % interval < -TIME_LIMIT:
        raise QueryError("the first interval of time() begins before 1677")
    if interval and (buckets := (end - 1) // interval - start // interval + 1) > BUCKETS_LIMIT:
        raise QueryError(f"max-select-buckets limit exceeded: ({buckets}/{BUCKETS_LIMIT})")
    groups: dict[tuple[str, ...], dict[int, dict[str, Points]]] = defaultdict(dict)
    for tags, moment, fields in rows:
        values = [(name, value) for name in names if (value := fields.get(name)) is not None]
        if not values:
            continue
        bucket = moment - moment % interval if interval else query.start or 0
        held = groups[_group(query, tags)].setdefault(bucket, {})
        for name, value in values:
            points = held.get(name)
            if points is None:
                points = held[name] = Points()
                budget.keep(8)
            points.times.append(moment)
            points.values.append(value)
            budget.keep(1 + len(value) // 16 if isinstance(value, str) else 1)
    found = []
    every = range(start - start % interval, end, interval) if interval and query.is_filled else range(0)
    for group, held_by_time in groups.items():
        series = _series(query, group)
        for moment, known in _calls(query, held_by_time, every, budget):
            values_ = [functions.computed(expression, known) for expression, _ in query.columns]
            budget.keep(_cost(values_))
            series.rows.append((moment, values_))
        found.append(series)
    return found


def _calls(
    query: Select, buckets: dict[int, dict[str, Points]], every: range, budget: Budget
) -> list[tuple[int, dict[Call, Value]]]:
    """By time, what each call gives, where any of them gives something, and at the times of ``every``."""
    calls = query.calls
    if calls[0].function == "sample":
        ((start, fields),) = buckets.items()
        sampled = functions.apply(calls[0], fields[calls[0].field], start)
        return [(moment, {calls[0]: value}) for moment, value in sampled]
    own_time = not query.interval and len(calls) == 1 and calls[0].function in SELECTORS
    rows: dict[int, dict[Call, Value]] = {}
    for call in calls:
        given: dict[int, Value] = {}
        applied = call.argument if isinstance(call.argument, Call) else call
        for start, fields in buckets.items():
            budget.keep(0)
            if call.field in fields:
                for moment, value in functions.apply(applied, fields[call.field], start):
                    given[moment if own_time else start] = value
        if applied is not call:
            given = functions.differences(given)
        elif given:
            budget.keep(len(every) * (2 + len(query.columns)))
            for start in every:
                given.setdefault(start, 0 if call.function == "count" else None)
        for moment, value in given.items():
            rows.setdefault(moment, {})[call] = value
    return list(rows.items())
