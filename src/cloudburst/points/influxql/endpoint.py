"""``/query``, by GET or with a form by POST, as InfluxDB 1 has it: ``q``, ``db`` and ``epoch``.

A text that cannot be read gets 400 and ``{"error": ...}``. A statement that fails has its ``error`` among the
``results``, and those after it are not executed.
"""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import anyio
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from cloudburst.points.body import Bodies, as_text
from cloudburst.points.influxql import answer
from cloudburst.points.influxql.parse import TEXT_LIMIT, parse
from cloudburst.points.influxql.show import show
from cloudburst.points.influxql.syntax import QueryError, Select, Statement, Value
from cloudburst.points.influxql.tokens import UNITS
from cloudburst.points.store import Store

FORM_LIMIT = 12 * TEXT_LIMIT
"""Bytes. A character takes up to twelve, as ``%F0%9F%8C%8A``."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Queries:
    """Reads one query at a time, so that their memory does not add up."""

    def __init__(self, store: Store, bucket: str) -> None:
        self._store = store
        self._bucket = bucket
        self._bodies = Bodies()
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def query(self, request: Request) -> Response:
        """Answer what is asked."""
        asked = dict(request.query_params)
        now = time.time_ns()
        try:
            if request.method == "POST":
                asked |= await self._form(request)
            if not asked.get("q"):
                raise QueryError('missing required parameter "q"')
            statements = parse(asked["q"], now=now)
        except QueryError as error:
            return Response(_encoded({"error": str(error)}), 400, media_type="application/json")
        results = await run_sync(self._results, statements, asked, now, limiter=self._one_at_a_time)
        return Response(results, media_type="application/json")

    async def _form(self, request: Request) -> dict[str, str]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("application/x-www-form-urlencoded", ""):
            raise QueryError(f"Content-Type {kind[:40]!r}: send application/x-www-form-urlencoded")
        with self._bodies.reading(request) as body:
            contents = await body.contents()
            if len(contents) > FORM_LIMIT:
                raise QueryError(f"the query is too long: at most {TEXT_LIMIT} characters")
            return dict(parse_qsl(as_text(contents)))

    def _results(self, statements: list[Statement], asked: dict[str, str], now: int) -> bytes:
        results: list[dict[str, Any]] = []
        budget = answer.Budget()
        failed = False
        for number, statement in enumerate(statements):
            result: dict[str, Any] = {"statement_id": number}
            try:
                if failed:
                    raise QueryError("not executed")
                if series := self._series(statement, asked, budget, now):
                    result["series"] = series
            except QueryError as error:
                result["error"], failed = str(error), True
            results.append(result)
        return _encoded({"results": results} if results else {})

    def _series(
        self, statement: Statement, asked: dict[str, str], budget: answer.Budget, now: int
    ) -> list[dict[str, Any]]:
        named = "" if isinstance(statement, Select) else statement.database
        database = named or asked.get("db", "")
        if not database and (isinstance(statement, Select) or statement.what != "DATABASES"):
            raise QueryError("database name required")
        if database not in ("", self._bucket):
            raise QueryError(
                f'database not found: {database[:100]} (a local stack has "{self._bucket}" only)'
            )
        if not isinstance(statement, Select):
            return show(self._store, statement, self._bucket, budget)
        columns = ["time", *answer.column_names(statement)]
        unit = UNITS.get(asked["epoch"].replace("us", "u"), 1) if asked.get("epoch") else 0
        return [
            {"name": statement.measurement}
            | ({"tags": one.tags} if one.tags else {})
            | {"columns": columns, "values": [_row(moment, values, unit) for moment, values in one.rows]}
            for one in answer.select(self._store, statement, budget, now)
        ]


def _row(moment: int, values: list[Value], unit: int) -> list[Any]:
    """As it is written: JSON knows no infinite numbers."""
    told = _rfc_3339(moment) if not unit else moment // unit if moment >= 0 else -(-moment // unit)
    return [told, *(None if isinstance(one, float) and not math.isfinite(one) else one for one in values)]


def _rfc_3339(moment: int) -> str:
    seconds, ns = divmod(moment, 10**9)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return text + f".{ns:09}".rstrip("0").rstrip(".") + "Z"


def _encoded(contents: dict[str, Any]) -> bytes:
    return json.dumps(contents, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"
