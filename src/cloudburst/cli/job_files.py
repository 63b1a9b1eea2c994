"""Job descriptions from files: JSON Lines, CSV, or a Python iterable; read as they are sent."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloudburst.cli.csv_jobs import CsvJobs
from cloudburst.cli.lines import checked, opened
from cloudburst.errors import ConfigError

_LARGE_EXPONENT = re.compile(r"[eE]\+?[0-9]{3}|[0-9]{300}")
"""Without it no number is too large for a float."""


def read(source: str) -> Iterator[dict[str, Any]]:
    """Job descriptions of ``source``: a file name, ``-`` for JSON Lines on stdin, or ``module.py:name``.

    A name that ends in ``.csv`` is CSV with a header: see ``csv_jobs`` for its types. In a Python file
    ``name`` is an iterable of dicts, or a function that returns one. Raises ConfigError, naming the line that
    cannot be read.
    """
    path, colon, name = source.rpartition(":")
    if colon and path.endswith(".py"):
        return _python(Path(path), name)
    if source.endswith(".py"):
        raise ConfigError(f"--jobs {source}: say which iterable in it, such as {source}:jobs")
    return _csv(source) if source.lower().endswith(".csv") else _json_lines(source)


def _json_lines(source: str) -> Iterator[dict[str, Any]]:
    with opened(source) as file:
        for number, line in enumerate(checked(file, source), 1):
            if line.strip():
                yield _object(line, f"{source}:{number}")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        if _LARGE_EXPONENT.search(line):
            json.loads(line, parse_float=_finite)
        description = json.loads(line, object_pairs_hook=_without_twins, parse_constant=_finite)
    except RecursionError as error:
        raise ConfigError(f"{where}: lists and objects are nested too deep") from error
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: one object per line is needed ({error})") from error
    if not isinstance(description, dict):
        raise ConfigError(f"{where}: a job description is a JSON object, got {line.strip():.60}")
    return description


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twin = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twin!r:.60} is there twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if math.isfinite(value):
        return value
    raise ValueError(f"{text:.60} is no number that JSON has: leave the key out, or use null")


def rules(source: str) -> list[tuple[str, str]]:
    """Of a CSV file the columns, each with the type that was found and why; nothing of other files."""
    if not source.lower().endswith(".csv"):
        return []
    with opened(source, twice=True) as file:
        found = CsvJobs(file, source)
    left_out = [("", f"{found.empty_rows:,} empty rows are left out")] if found.empty_rows else []
    return [(column.name, column.rule()) for column in found.columns if column.kinds] + left_out


def _csv(source: str) -> Iterator[dict[str, Any]]:
    with opened(source, twice=True) as file:
        yield from CsvJobs(file, source)


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
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        where = f"line {lines[-1]}: " if lines else ""
        raise ConfigError(f"{source}: {where}{type(error).__name__}: {error}") from error
