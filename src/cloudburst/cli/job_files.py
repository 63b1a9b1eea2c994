"""Job descriptions from files: JSON Lines, CSV, or a Python iterable; read as they are sent."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from cloudburst import names
from cloudburst.errors import ConfigError

_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAME_OF_DIGITS = re.compile(r"[+-]?0[0-9]+")
"""Such as 007: a number would lose its zeros."""


def read(source: str) -> Iterator[dict[str, Any]]:
    """Job descriptions of ``source``: a file name, ``-`` for JSON Lines on stdin, or ``module.py:name``.

    A name that ends in ``.csv`` is CSV with a header: numbers become numbers, empty cells are left out. In a
    Python file ``name`` is an iterable of dicts, or a function that returns one. Raises ConfigError, naming
    the line that cannot be read.
    """
    path, colon, name = source.rpartition(":")
    if colon and path.endswith(".py"):
        return _python(Path(path), name)
    if source.endswith(".py"):
        raise ConfigError(f"--jobs {source}: say which iterable in it, such as {source}:jobs")
    return _csv(source) if source.lower().endswith(".csv") else _json_lines(source)


def _json_lines(source: str) -> Iterator[dict[str, Any]]:
    with _opened(source) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                description = json.loads(line)
            except ValueError as error:
                raise ConfigError(
                    f"{source}:{number}: not JSON: one object per line is needed ({error})"
                ) from error
            if not isinstance(description, dict):
                raise ConfigError(
                    f"{source}:{number}: a job description is a JSON object, got {line.strip():.60}"
                )
            yield description


def _csv(source: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(names.DESCRIPTION_LIMIT_BYTES)
    with _opened(source) as file:
        rows = csv.reader(file, strict=True)
        try:
            header = next(rows, [])
            if len(set(header)) < len(header):
                raise ConfigError(f"{source}:1: two columns have the same name: {', '.join(header):.200}")
            for row in rows:
                if row and len(row) != len(header):
                    raise ConfigError(
                        f"{source}:{rows.line_num}: {len(row)} cells, but the header has {len(header)}"
                    )
                if row:
                    yield {key: _number(cell) for key, cell in zip(header, row, strict=True) if cell != ""}
        except csv.Error as error:
            raise ConfigError(f"{source}:{rows.line_num}: not CSV ({error})") from error


def _number(cell: str) -> int | float | str:
    text = cell.strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and not _NAME_OF_DIGITS.fullmatch(text):
        return float(text)
    return cell


def _python(path: Path, name: str) -> Iterator[dict[str, Any]]:
    source = f"--jobs {path}:{name}"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{source}: no such Python file")
    sys.path.insert(0, str(path.parent.resolve()))
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)
    with _explained(source, path):
        spec.loader.exec_module(module)
        found = getattr(module, name, None)
        if callable(found):
            found = found()
    if not isinstance(found, Iterable):
        raise ConfigError(f"{source}: not an iterable of job descriptions, nor a function of one")
    return _iterated(found, source, path)


def _iterated(found: Iterable[dict[str, Any]], source: str, path: Path) -> Iterator[dict[str, Any]]:
    items = iter(found)
    while True:
        with _explained(source, path):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


@contextmanager
def _explained(source: str, path: Path) -> Iterator[None]:
    """Report what the user's code raises in one line that says where."""
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        where = f"line {lines[-1]}: " if lines else ""
        raise ConfigError(f"{source}: {where}{type(error).__name__}: {error}") from error


@contextmanager
def _opened(source: str) -> Iterator[TextIO]:
    if source == "-":
        yield sys.stdin
        return
    try:
        # Spreadsheets begin UTF-8 with a byte order mark.
        with open(source, encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise ConfigError(f"--jobs {source}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--jobs {source}: not UTF-8 text ({error})") from error
