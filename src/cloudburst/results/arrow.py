"""Columns in Parquet: a type for each that all its values fit, JSON text for those that fit none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from cloudburst.results.columns import EXACT_IN_FLOAT

# Imported only by the function that writes Parquet: pyarrow takes a while.

FIXED = {
    "index": pa.int64(),
    "state": pa.string(),
    "attempt": pa.int64(),
    "node": pa.string(),
    "started_at": pa.timestamp("us", tz="UTC"),
    "duration_s": pa.float64(),
    "error": pa.string(),
    "fingerprint": pa.string(),
}
"""The types of CloudBurst's own columns."""

JSON_TEXT = {b"cloudburst": b"json"}
"""Marks a column whose cells are JSON: its values are of several types, or dicts with differing keys."""

LARGE = {b"cloudburst": b"large"}
"""Marks, until it is written, a column with whole numbers in lists or dicts that floats cannot hold."""

DEEPEST = 20
"""Readers of Parquet refuse a schema that is nested deeper than some 30 levels."""

_UNFIT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError)
"""What pyarrow raises for values of several types, too large numbers, and broken Unicode."""


def field(name: str, values: Sequence[Any]) -> pa.Field:
    """The column ``name`` with a type that holds all of ``values`` exactly."""
    if name in FIXED:
        return pa.field(name, FIXED[name])
    try:
        kind = pa.infer_type(values)
        if _depth(kind):
            pa.array(values, kind)  # no number in it may need to be rounded
        else:
            array(values, pa.field(name, kind))
    except _UNFIT:
        return _text(name)
    if _lossy(kind) or _depth(kind) > DEEPEST or (pa.types.is_struct(kind) and not _same_keys(values)):
        return _text(name)
    return pa.field(name, kind, metadata=LARGE if _depth(kind) and _has_large(values) else None)


def merged(left: pa.Field, right: pa.Field) -> pa.Field:
    """A field for the values of both."""
    if left.equals(right, check_metadata=True):
        return left
    large = LARGE if LARGE in (left.metadata, right.metadata) else None
    if JSON_TEXT in (left.metadata, right.metadata) or (large and not left.type.equals(right.type)):
        return _text(left.name)
    if large:
        return left.with_metadata(LARGE)
    try:
        (both,) = pa.unify_schemas([pa.schema([left]), pa.schema([right])], promote_options="permissive")
    except pa.ArrowTypeError:
        return _text(left.name)
    grown = pa.types.is_struct(both.type) and any(
        pa.types.is_struct(one.type) and one.type.num_fields < both.type.num_fields for one in (left, right)
    )
    return _text(left.name) if grown else both


def exact(column: pa.Field) -> pa.Field:
    """A field for values some of which floats cannot hold."""
    return _text(column.name) if pa.types.is_floating(column.type) else column


def array(values: Sequence[Any], column: pa.Field) -> pa.Array:
    """``values`` as the type of ``column``."""
    if column.metadata == JSON_TEXT:
        return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())
    try:
        return pa.array(values, column.type)
    except pa.ArrowInvalid:
        # A whole number beyond 2**53 among floats, which pyarrow does not round.
        return pa.array(_floats(values), column.type)


def _text(name: str) -> pa.Field:
    return pa.field(name, pa.string(), metadata=JSON_TEXT)


def _lossy(kind: pa.DataType) -> bool:
    """Whether dicts inside of lists or dicts would get keys that they do not have, or none can be written."""
    if pa.types.is_list(kind):
        return _has_struct(kind.value_type)
    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_has_struct(kind.field(i).type) for i in range(kind.num_fields))
    return False


def _has_struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) or (pa.types.is_list(kind) and _has_struct(kind.value_type))


def _same_keys(values: Sequence[Any]) -> bool:
    return len({frozenset(value) for value in values if value is not None}) == 1


def _depth(kind: pa.DataType) -> int:
    """How many lists and structs are inside of each other."""
    depth, level = 0, [kind]
    while level := [
        part
        for one in level
        for part in (
            [one.value_type] if pa.types.is_list(one) else list(one) if pa.types.is_struct(one) else []
        )
    ]:
        level = [getattr(part, "type", part) for part in level]
        depth += 1
    return depth


def _has_large(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_has_large, value.values() if isinstance(value, dict) else value))
    return type(value) is int and abs(value) > EXACT_IN_FLOAT


def _floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_floats(item) for item in value]
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    return float(value) if type(value) is int else value
