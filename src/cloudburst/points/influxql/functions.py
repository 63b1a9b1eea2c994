"""What InfluxQL's functions make of the points of one group, as InfluxDB does it."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudburst.points.influxql.syntax import Binary, Call, Expression, QueryError, Value


@dataclass
class Points:
    """Times and values of one field, in any order."""

    times: array[int] = field(default_factory=lambda: array("q"))
    values: list[Any] = field(default_factory=list)


def apply(call: Call, points: Points, start: int) -> list[tuple[int, Value]]:
    """The points that the function gives: none, one, or some of ``sample``. ``start``: of the interval."""
    times, values, name = points.times, points.values, call.function
    if name == "count":
        return [(start, len(values))]
    pairs = zip(times, values, strict=True)
    if name == "sample":
        some = list(pairs) if len(values) <= call.parameter else random.sample([*pairs], int(call.parameter))
        return sorted(some, key=lambda one: one[0])
    if name == "last":
        return [max(pairs)]
    if isinstance(values[0], str) or (isinstance(values[0], bool) and name not in ("min", "max")):
        raise QueryError(f'{name}("{call.field}"): its values are no numbers')
    if name in ("min", "max"):
        value = (min if name == "min" else max)(values)
        return [(min(time for time, one in pairs if one == value), value)]
    if name == "percentile":
        number = math.floor(len(values) * call.parameter / 100 + 0.5) - 1
        value_and_time = sorted(zip(values, times, strict=True))[max(number, 0) :][: number >= 0]
        return [(time, value) for value, time in value_and_time]
    return [(start, _NUMBERS[name](values))]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _median(values: list[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    if len(values) % 2:
        return float(ordered[middle])
    return ordered[middle - 1] + (ordered[middle] - ordered[middle - 1]) / 2


def _spread(values: list[float]) -> float:
    return wrapped(max(values) - min(values))


def _stddev(values: list[float]) -> float | None:
    mean = _mean(values)
    squares = sum((value - mean) * (value - mean) for value in values)
    return math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None


_NUMBERS: dict[str, Callable[[list[float]], float | None]] = {
    "mean": _mean,
    "median": _median,
    "spread": _spread,
    "stddev": _stddev,
}


def differences(row: dict[int, Any]) -> dict[int, Value]:
    """From value to value, where it does not fall; by time, as is ``row``."""
    found: dict[int, Value] = {}
    before = None
    for time in sorted(row):
        value = row[time]
        if isinstance(value, str | bool):
            raise QueryError("non_negative_difference(): the values are no numbers")
        if value is None:
            continue
        if before is not None and value >= before:
            found[time] = wrapped(value - before)
        before = value
    return found


def computed(expression: Expression, known: Mapping[Any, Value]) -> Value:
    """The value of an expression, or None where a part of it has none."""
    if not isinstance(expression, Binary):
        return known.get(expression) if isinstance(expression, str | Call) else expression
    left, right = computed(expression.left, known), computed(expression.right, known)
    if left is None or right is None:
        return None
    if isinstance(left, str | bool) or isinstance(right, str | bool):
        raise QueryError(f"{expression.operator}: only numbers can be computed with")
    if expression.operator == "/":
        return left / right if right else 0.0
    if expression.operator == "*":
        return wrapped(left * right)
    return wrapped(left + right if expression.operator == "+" else left - right)


def wrapped(number: float) -> float:
    """Integers have 64 bits, in InfluxDB as in Go."""
    return (number + 2**63) % 2**64 - 2**63 if isinstance(number, int) else number
