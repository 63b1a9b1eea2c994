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


FIELDS_LIMIT = 20_000
"""Fields of one measurement. Their names have to be known for each write, so there cannot be millions."""

_CACHED_FIELDS = 200_000


class PointRefused(PointsError):
    """One point cannot be stored: a field of it has another type than before, or is one too many."""


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
        self._cached = 0

    def forget(self) -> None:
        """To be called after a rollback: what was new then is not in the table any more."""
        self._known.clear()
        self._cached = 0

    def check(self, measurement: str, fields: dict[str, FieldValue]) -> None:
        """Raise PointRefused unless a point with these fields can be stored; remember those that are new."""
        known = self._of(measurement)
        for name, value in fields.items():
            field = known.get(name)
            if field is None or field.kind is not type(value):
                self._add(measurement, fields)
                return

    def to_json(self, measurement: str, fields: dict[str, FieldValue]) -> str:
        """``fields``, which were checked, as a JSON object. json.dumps would take three times as long."""
        known = self._of(measurement)
        parts = []
        for name, value in fields.items():
            prefix, kind = known[name].prefix, type(value)
            if kind is float or kind is int:
                parts.append(prefix + repr(value))
            elif kind is bool:
                parts.append(prefix + ("true" if value else "false"))
            else:
                parts.append(prefix + _text_to_json(value))
        return "{" + ",".join(parts) + "}"

    def _of(self, measurement: str) -> dict[str, _Field]:
        known = self._known.get(measurement)
        if known is None:
            if self._cached > _CACHED_FIELDS:
                self.forget()
            known = self._known[measurement] = self._read(measurement)
            self._cached += len(known) + 1
        return known

    def _add(self, measurement: str, fields: dict[str, FieldValue]) -> None:
        """Remember the new ones among ``fields``, unless one of them cannot be stored."""
        known = self._known[measurement]
        for name, value in fields.items():
            if name in known and known[name].kind is not type(value):
                raise PointRefused(
                    f'field type conflict: input field "{name}" on measurement "{measurement}" is type'
                    f" {_NAMES[type(value)]}, already exists as type {_NAMES[known[name].kind]}"
                )
        new = {
            name: _Field(type(value), _text_to_json(name) + ":")
            for name, value in fields.items()
            if name not in known
        }
        if len(known) + len(new) > FIELDS_LIMIT:
            raise PointRefused(
                f'too many fields: measurement "{measurement}" has {len(known)} of at most {FIELDS_LIMIT}; '
                "what tells points apart belongs into tags or values, not into names of fields"
            )
        self._connection.executemany(
            "INSERT OR IGNORE INTO fields VALUES(?, ?, ?)",
            [(measurement, name, _NAMES[field.kind]) for name, field in new.items()],
        )
        known.update(new)
        self._cached += len(new)

    def _read(self, measurement: str) -> dict[str, _Field]:
        query = "SELECT name, type FROM fields WHERE measurement = ?"
        rows = self._connection.execute(query, (measurement,)).fetchall()
        return {name: _Field(_TYPES[kind], _text_to_json(name) + ":") for name, kind in rows}
