"""What a query of the subset says, once it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cloudburst.errors import PointsError

Value = str | float | int | bool | None

FUNCTIONS = dict.fromkeys(("count", "last", "max", "mean", "median", "min", "spread", "stddev"), False)
FUNCTIONS |= {"non_negative_difference": False, "percentile": True, "sample": True}
"""By name, whether it takes a number beside the field."""

SELECTORS = frozenset({"last", "max", "min", "percentile"})
"""They choose one point; alone in a query they tell its time."""


class QueryError(PointsError):
    """A query is no InfluxQL, asks for more than is answered here, or does not fit what is stored."""


def outside(construct: str) -> QueryError:
    """That the subset does not have it."""
    return QueryError(
        f"{construct}: not in the part of InfluxQL that the local stack answers; a swarm's InfluxDB "
        "(./buildstack.sh --docker, --hosts or -n) has all of InfluxQL and Flux"
    )


@dataclass(frozen=True)
class Call:
    """A function of ``FUNCTIONS``; only ``non_negative_difference`` has a call as its argument."""

    function: str
    argument: str | Call
    parameter: float = 0

    @property
    def field(self) -> str:
        return self.argument if isinstance(self.argument, str) else self.argument.field


@dataclass(frozen=True)
class Binary:
    operator: str
    left: Expression
    right: Expression


Expression = float | str | Call | Binary
"""A text is the name of a field."""


def operands(expression: Expression) -> Iterator[str | Call]:
    """The fields and calls from which it is computed, from left to right."""
    if isinstance(expression, Binary):
        yield from operands(expression.left)
        yield from operands(expression.right)
    elif isinstance(expression, str | Call):
        yield expression


@dataclass(frozen=True)
class Comparison:
    """A condition on a tag or a field."""

    name: str
    operator: str
    value: Value


@dataclass(frozen=True)
class Select:
    """A whole SELECT. All conditions must hold; ``start <= time < end`` (ns), where they are given."""

    columns: tuple[tuple[Expression, str], ...]
    """Each with its alias, or ""."""
    source: str | Select
    conditions: tuple[Comparison, ...]
    start: int | None
    end: int | None
    interval: int
    """Of GROUP BY time(), in ns, or 0."""
    tags: tuple[str, ...]
    """Of GROUP BY, sorted."""
    is_filled: bool
    """Intervals without a point have a row nevertheless."""
    descending: bool
    limit: int
    """Rows of each series, or 0 for all."""

    @property
    def operands(self) -> dict[str | Call, None]:
        """Of all columns, each once, in their order."""
        return dict.fromkeys(one for expression, _ in self.columns for one in operands(expression))

    @property
    def calls(self) -> list[Call]:
        return [one for one in self.operands if isinstance(one, Call)]

    @property
    def measurement(self) -> str:
        return self.source if isinstance(self.source, str) else self.source.measurement


@dataclass(frozen=True)
class Show:
    """``SHOW what``; "", () and 0 where nothing is said."""

    what: str
    database: str
    measurement: str
    keys: tuple[str, ...]
    limit: int


Statement = Select | Show
