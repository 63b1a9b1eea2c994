"""Answers SHOW: what Grafana's editor asks before it offers something to choose."""

from __future__ import annotations

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
    columns = {
        "FIELD KEYS": ["fieldKey", "fieldType"],
        "TAG VALUES": ["key", "value"],
        "TAG KEYS": ["tagKey"],
    }[query.what]
    is_fields = query.what == "FIELD KEYS"
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for measurement, *row in (store.fields if is_fields else store.tags)(query.measurement):
        if not query.keys or row[0] in query.keys:
            budget.keep(4 + len(row[1]) // 16)
            found.setdefault(measurement, {})[tuple(row[: len(columns)])] = None
    return [
        _series(measurement, columns, [list(row) for row in rows][: query.limit or None])
        for measurement, rows in found.items()
    ]


def _series(name: str, columns: list[str], values: list[list[str]]) -> dict[str, Any]:
    return {"name": name, "columns": columns, "values": values}
