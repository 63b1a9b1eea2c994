"""Which type each field has, and the JSON in which the embedded database keeps fields.

A field keeps the type of its first value, as in InfluxDB, where points that bring another are refused.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from cloudburst.errors import PointsError
from cloudburst.points.parse import FieldValue

SCHEMA = """
CREATE TABLE IF NOT EXISTS fields(
    measurement TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    PRIMARY KEY(measurement, name)) WITHOUT ROWID;
"""

_NAMES: dict[type, str] = {float: "float", int: "integer", bool: "boolean", str: "string"}
_TYPES = {name: kind for kind, name in _NAMES.items()}
_text_to_json = json.JSONEncoder(ensure_ascii=False).encode


class TypeConflict(PointsError):
    """A point was refused because a field of it has another type than before."""


@dataclass(frozen=True, slots=True)
class _Field:
    kind: type
    prefix: str
    """The name in JSON, and the colon."""


class FieldTypes:
    """The types of all fields, kept in the table ``fields``; to be used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[str, dict[str, _Field]] = {}

    def forget(self) -> None:
        """To be called after a rollback: what was new then is not in the table any more."""
        self._known.clear()

    def to_json(self, measurement: str, fields: dict[str, FieldValue]) -> str:
        """``fields`` as a JSON object; raises TypeConflict. json.dumps would take three times as long."""
        known = self._known.get(measurement)
        if known is None:
            known = self._known[measurement] = self._read(measurement)
        parts = []
        for name, value in fields.items():
            field = known.get(name)
            kind = type(value)
            if field is None or field.kind is not kind:
                field = self._add(measurement, fields)[name]
            if kind is float or kind is int:
                parts.append(field.prefix + repr(value))
            elif kind is bool:
                parts.append(field.prefix + ("true" if value else "false"))
            else:
                parts.append(field.prefix + _text_to_json(value))
        return "{" + ",".join(parts) + "}"

    def _add(self, measurement: str, fields: dict[str, FieldValue]) -> dict[str, _Field]:
        """Remember the new ones among ``fields``, unless one of them has another type than before."""
        known = self._known[measurement]
        for name, value in fields.items():
            if name in known and known[name].kind is not type(value):
                raise TypeConflict(
                    f'field type conflict: input field "{name}" on measurement "{measurement}" is type'
                    f" {_NAMES[type(value)]}, already exists as type {_NAMES[known[name].kind]}"
                )
        new = {name: _Field(type(value), _text_to_json(name) + ":") for name, value in fields.items()}
        self._connection.executemany(
            "INSERT OR IGNORE INTO fields VALUES(?, ?, ?)",
            [(measurement, name, _NAMES[field.kind]) for name, field in new.items()],
        )
        known.update(new)
        return known

    def _read(self, measurement: str) -> dict[str, _Field]:
        query = "SELECT name, type FROM fields WHERE measurement = ?"
        rows = self._connection.execute(query, (measurement,)).fetchall()
        return {name: _Field(_TYPES[kind], _text_to_json(name) + ":") for name, kind in rows}
