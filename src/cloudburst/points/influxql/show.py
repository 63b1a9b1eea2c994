"""Answers SHOW: what Grafana's editor asks before it offers something to choose."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from cloudburst.points.influxql.answer import Budget
from cloudburst.points.influxql.syntax import Show
from cloudburst.points.store import Store


def show(store: Store, query: Show, bucket: str, budget: Budget) -> list[dict[str, Any]]:
    """The series, as InfluxDB writes them."""
    if query.what == "DATABASES":
        return [_series("databases", ["name"], [[bucket]])]
    if query.what == "RETENTION POLICIES":
        columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"]
        return [{"columns": columns, "values": [["autogen", "0s", "168h0m0s", 1, True]]}]
    if query.what == "MEASUREMENTS":
        names = dict.fromkeys(measurement for measurement, _, _ in store.fields())
        return [_series("measurements", ["name"], [[name] for name in names][: query.limit or None])]
    rows: list[tuple[str, str, str]] = []
    for row in (
        store.fields(query.measurement) if query.what == "FIELD KEYS" else store.tags(query.measurement)
    ):
        if not query.keys or row[1] in query.keys:
            budget.keep(4 + len(row[2]) // 16)
            rows.append(row)
    columns = {
        "FIELD KEYS": ["fieldKey", "fieldType"],
        "TAG VALUES": ["key", "value"],
        "TAG KEYS": ["tagKey"],
    }[query.what]
    return [
        _series(
            measurement, columns, _distinct([list(row[1:][: len(columns)]) for row in of_one], query.limit)
        )
        for measurement, of_one in groupby(rows, lambda row: row[0])
    ]


def _distinct(rows: list[list[str]], limit: int) -> list[list[str]]:
    return [list(row) for row in dict.fromkeys(map(tuple, rows))][: limit or None]


def _series(name: str, columns: list[str], values: list[list[str]]) -> dict[str, Any]:
    return {"name": name, "columns": columns, "values": values}
