"""Job descriptions from files: JSON Lines, CSV, or a Python iterable; read as they are sent."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from cloudburst.errors import ConfigError


def read(source: str) -> Iterator[dict[str, Any]]:
    """Job descriptions of ``source``: a file name, ``-`` for JSON Lines on stdin, or ``module.py:name``.

    A name that ends in ``.csv`` is CSV with a header: numbers become numbers, empty cells are left out. In a
    Python file ``name`` is an iterable of dicts, or a function that returns one. Raises ConfigError, naming
    the line that cannot be read.
    """
    path, colon, name = source.rpartition(":")
    if colon and path.endswith(".py"):
        return iter(_python(Path(path), name))
    if source.endswith(".py"):
        raise ConfigError(f"--jobs {source}: say which iterable in it, such as {source}:jobs")
    return _csv(source) if source.endswith(".csv") else _json_lines(source)


def _json_lines(source: str) -> Iterator[dict[str, Any]]:
    with _opened(source) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                description = json.loads(line)
            except ValueError as error:
                raise ConfigError(f"{source}:{number}: not a line of JSON ({error})") from error
            if not isinstance(description, dict):
                raise ConfigError(
                    f"{source}:{number}: a job description is a JSON object, got {line.strip():.60}"
                )
            yield description


def _csv(source: str) -> Iterator[dict[str, Any]]:
    with _opened(source) as file:
        rows = csv.DictReader(file)
        for row in rows:
            if None in row or None in row.values():
                raise ConfigError(f"{source}:{rows.line_num}: has not as many cells as the header")
            yield {key: _number(cell) for key, cell in row.items() if cell != ""}


def _number(cell: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _python(path: Path, name: str) -> Iterable[dict[str, Any]]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"--jobs {path}:{name}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if callable(found):
        found = found()
    if not isinstance(found, Iterable):
        raise ConfigError(f"--jobs {path}:{name}: not an iterable of job descriptions, nor a function of one")
    return found


@contextmanager
def _opened(source: str) -> Iterator[TextIO]:
    if source == "-":
        yield sys.stdin
        return
    try:
        with open(source, encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise ConfigError(f"--jobs {source}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--jobs {source}: not UTF-8 text ({error})") from error
