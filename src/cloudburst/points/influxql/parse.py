"""Reads InfluxQL by descent: a method for each clause. Its time grows as the text does."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cloudburst.points.influxql.syntax import (
    FUNCTIONS,
    Binary,
    Call,
    Comparison,
    Expression,
    QueryError,
    Select,
    Show,
    Statement,
    Value,
    outside,
)
from cloudburst.points.influxql.tokens import Tokens
from cloudburst.points.parse import TIME_LIMIT

TEXT_LIMIT = 64 * 1024
"""Characters of all that is asked at once."""

_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse(text: str, *, now: int) -> list[Statement]:
    """The statements of ``text``; ``now`` in ns. Raises QueryError."""
    if len(text) > TEXT_LIMIT:
        raise QueryError(f"the query is too long: at most {TEXT_LIMIT} characters")
    tokens = Tokens(text)
    found: list[Statement] = []
    while not tokens.at_kind("end"):
        if tokens.accept(";"):
            continue
        tokens.nested = 0
        kind = tokens.expect("SELECT", "SHOW")
        found.append(_Selects(tokens, now).select() if kind == "SELECT" else _show(tokens))
        if not tokens.at_kind("end"):
            tokens.expect(";")
    return found


class _Selects:
    """Reads a SELECT and its subqueries."""

    def __init__(self, tokens: Tokens, now: int) -> None:
        self._tokens = tokens
        self._now = now

    def select(self) -> Select:
        """All behind the word SELECT."""
        tokens = self._tokens
        columns = tokens.several(self._column)
        tokens.expect("FROM")
        source = self._source()
        conditions: list[Comparison] = []
        starts: list[int] = []
        ends: list[int] = []
        if tokens.accept("WHERE"):
            self._conditions(conditions, starts, ends)
        interval, tags = self._group_by()
        is_filled = self._fill() and interval > 0
        descending = self._order_by()
        limit = _limit(tokens)
        start, end = max(starts, default=None), min(ends, default=None)
        made = (tuple(columns), source, tuple(conditions), start, end, interval, tags, is_filled)
        return _checked(Select(*made, descending, limit))

    def _column(self) -> tuple[Expression, str]:
        nested = self._tokens.nested
        expression = self._sum()
        self._tokens.nested = nested
        return expression, self._tokens.name("a name") if self._tokens.accept("AS") else ""

    def _sum(self) -> Expression:
        return self._chain(self._product, "+", "-")

    def _product(self) -> Expression:
        return self._chain(self._operand, "*", "/")

    def _chain(self, operand: Callable[[], Expression], *operators: str) -> Expression:
        left = operand()
        nested = self._tokens.nested
        while operator := self._tokens.accept(*operators):
            self._tokens.nest()
            left = Binary(operator, left, operand())
        self._tokens.nested = nested
        return left

    def _operand(self) -> Expression:
        tokens = self._tokens
        if tokens.accept("("):
            tokens.nest()
            inner = self._sum()
            tokens.expect(")")
            return inner
        if tokens.at_kind("number") or tokens.at("-"):
            return tokens.number()
        is_word = tokens.at_kind("word")
        name = tokens.name("a field, a function or a number")
        if is_word and tokens.accept("("):
            return self._call(name.lower())
        if name.lower() == "time":
            raise outside("time among what is selected")
        return name

    def _call(self, function: str) -> Call:
        if function not in FUNCTIONS:
            raise outside(f"{function[:40]}()")
        self._tokens.nest()
        argument = self._operand()
        parameter = self._tokens.number() if FUNCTIONS[function] and self._tokens.expect(",") else 0
        self._tokens.expect(")")
        if function == "sample" and not (isinstance(parameter, int) and parameter > 0):
            raise QueryError("sample(): takes how many points, an integer from 1")
        if isinstance(argument, Call):
            fits = function == "non_negative_difference" and argument.function not in (
                function,
                "count",
                "sample",
            )
        else:
            fits = function != "non_negative_difference" and isinstance(argument, str)
        if not fits or not isinstance(argument, str | Call):
            raise outside(f"{function}() of what is there in its parentheses")
        return Call(function, argument, parameter)

    def _source(self) -> str | Select:
        if not self._tokens.accept("("):
            return self._tokens.name("the name of one measurement")
        self._tokens.nest()
        self._tokens.expect("SELECT")
        inner = self.select()
        self._tokens.expect(")")
        return inner

    def _conditions(self, found: list[Comparison], starts: list[int], ends: list[int]) -> None:
        tokens = self._tokens
        while True:
            if tokens.accept("("):
                tokens.nest()
                self._conditions(found, starts, ends)
                tokens.expect(")")
            else:
                name = tokens.name("the name of a tag or a field, or time")
                operator = tokens.expect("=", "!=", "<>", "<", "<=", ">", ">=").replace("<>", "!=")
                if name.lower() != "time":
                    found.append(Comparison(name, operator, self._value()))
                else:
                    self._range(operator, starts, ends)
            if not tokens.accept("AND"):
                return

    def _range(self, operator: str, starts: list[int], ends: list[int]) -> None:
        time = self._moment()
        while sign := self._tokens.accept("+", "-"):
            time += self._tokens.span() if sign == "+" else -self._tokens.span()
        time = min(max(time, -TIME_LIMIT), TIME_LIMIT)
        if operator == "!=":
            raise outside("time !=")
        if operator in ("=", ">=", ">"):
            starts.append(time + (operator == ">"))
        if operator in ("=", "<=", "<"):
            ends.append(time + (operator != "<"))

    def _moment(self) -> int:
        """ns since 1970."""
        tokens = self._tokens
        if tokens.at_kind("text"):
            return _date(tokens.text())
        if tokens.accept("NOW"):
            tokens.expect("(")
            tokens.expect(")")
            return self._now
        if tokens.at_kind("span"):
            return tokens.span()
        return int(tokens.number())

    def _value(self) -> Value:
        if self._tokens.at_kind("text"):
            return self._tokens.text()
        if word := self._tokens.accept("TRUE", "FALSE"):
            return word == "TRUE"
        return self._tokens.number()

    def _group_by(self) -> tuple[int, tuple[str, ...]]:
        intervals: list[int] = []
        tags: list[str] = []

        def dimension() -> None:
            is_word = self._tokens.at_kind("word")
            name = self._tokens.name("a tag or time()")
            if is_word and name.lower() == "time" and self._tokens.accept("("):
                intervals.append(self._tokens.span())
                self._tokens.expect(")")
            else:
                tags.append(name)

        if self._tokens.accept("GROUP"):
            self._tokens.expect("BY")
            self._tokens.several(dimension)
        if len(intervals) > 1 or any(not 0 < interval <= TIME_LIMIT for interval in intervals):
            raise QueryError("time(): is there once, and neither 0 nor longer than 292 years")
        return (intervals or [0])[0], tuple(sorted(tags))

    def _fill(self) -> bool:
        if not self._tokens.accept("FILL"):
            return True
        self._tokens.expect("(")
        what = self._tokens.expect("NULL", "NONE")
        self._tokens.expect(")")
        return what == "NULL"

    def _order_by(self) -> bool:
        if not self._tokens.accept("ORDER"):
            return False
        self._tokens.expect("BY")
        self._tokens.expect("TIME")
        return self._tokens.accept("ASC", "DESC") == "DESC"


def _limit(tokens: Tokens) -> int:
    limit = tokens.number() if tokens.accept("LIMIT") else 0
    if not isinstance(limit, int) or limit < 0:
        raise QueryError("LIMIT: should be an integer from 0")
    return limit


def _show(tokens: Tokens) -> Show:
    what = tokens.expect("DATABASES", "FIELD", "MEASUREMENTS", "RETENTION", "TAG")
    more = {"FIELD": ("KEYS",), "RETENTION": ("POLICIES",), "TAG": ("KEYS", "VALUES")}.get(what)
    what += " " + tokens.expect(*more) if more else ""
    database = tokens.name("a database") if tokens.accept("ON") else ""
    is_of_one = what.endswith(("KEYS", "VALUES")) and tokens.accept("FROM")
    measurement = tokens.name("the name of one measurement") if is_of_one else ""
    keys: list[str] = []
    if what == "TAG VALUES":
        tokens.expect("WITH")
        tokens.expect("KEY")
        if tokens.expect("=", "IN") == "=":
            keys = [tokens.name("a tag")]
        else:
            tokens.expect("(")
            keys = tokens.several(lambda: tokens.name("a tag"))
            tokens.expect(")")
    return Show(what, database, measurement, tuple(keys), _limit(tokens))


def _date(text: str) -> int:
    """ns of an RFC 3339 time, or of one without its T, zone or time of day: these are UTC."""
    found = _DATE.fullmatch(text)
    try:
        day, clock, fraction, zone = found.groups() if found else ("", "", "", "")
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}{zone or 'Z'}")
    except ValueError:
        raise QueryError(f"invalid time '{text[:40]}': should be as '2024-01-31T12:00:00Z'") from None
    return (moment - _EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or "").ljust(9, "0"))


def _checked(select: Select) -> Select:
    """It, if its clauses fit together (QueryError)."""
    used, calls = select.operands, {call.function for call in select.calls}
    inner = select.source
    if not used:
        raise QueryError("field must contain at least one variable")
    if calls and any(isinstance(one, str) for one in used):
        raise outside("a field beside functions of fields")
    if select.interval and not calls:
        raise QueryError("GROUP BY requires at least one aggregate function")
    if select.interval and select.start is None:
        raise outside("GROUP BY time() without a time from which on")
    if "non_negative_difference" in calls and not select.interval:
        raise QueryError("non_negative_difference aggregate requires a GROUP BY interval")
    if "non_negative_difference" in calls and (len(calls) > 1 or select.descending):
        raise outside("non_negative_difference() beside another function, or with ORDER BY time DESC")
    if "sample" in calls and (len(used) > 1 or select.interval):
        raise outside("sample() beside another function, or with GROUP BY time()")
    if isinstance(inner, Select) and (select.start is not None or select.end is not None):
        raise outside("a range of time outside of a subquery")
    if isinstance(inner, Select) and not set(select.tags) <= set(inner.tags):
        raise outside("GROUP BY outside of a subquery with a tag by which that does not group")
    return select
