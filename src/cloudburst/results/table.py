"""``Results``: what an ensemble returned, as DataFrame, CSV, Parquet or JSON Lines."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO

from cloudburst import extras, nested
from cloudburst.model import JobRecord
from cloudburst.results.columns import AFTER, PAYLOAD, after
from cloudburst.results.snapshot import Snapshot

if TYPE_CHECKING:
    import pandas as pd


class Results:
    """The records of an ensemble, read when they are asked for: those of all jobs that have ended by then.

    Tables have one row per job, by index, and these columns: ``index`` and ``state``; the job description's
    parameters; the returned values (a returned dict gives a column for each of its keys, anything else the
    column ``value``); ``attempt``, ``node``, ``started_at`` (UTC), ``duration_s``, ``error`` and
    ``fingerprint``; and, if the records come from more than one payload, ``payload``, its digest. A returned
    value whose name is taken gets the suffix ``_returned``, a parameter whose name is one of CloudBurst's own
    columns the suffix ``_parameter``.
    """

    def __init__(self, records: Callable[[], Iterator[JobRecord]]) -> None:
        self._records = records

    def __iter__(self) -> Iterator[JobRecord]:
        """The records in the order in which the jobs ended, read as they are consumed."""
        return self._records()

    def to_frame(self) -> pd.DataFrame:
        """A DataFrame with the columns above; ``index`` is its index. Lists and dicts stay as they are.

        Where only some jobs have a value, the others have NaN (None in a column of texts or lists).
        Raises ConfigError where pandas is not installed (the extra ``[frames]``).
        """
        with extras.needed("frames", "to_frame()"):
            import pandas as pd

        with Snapshot(self._records()) as snapshot:
            names = snapshot.columns.names()
            exact = snapshot.columns.inexact(len(snapshot))
            parts = [
                pd.DataFrame({name: _series(name, values, name in exact) for name, values in columns})
                for columns in map(snapshot.columns.cells, snapshot.batches())
            ]
        # What is missing from a part comes back as NaN, without a change of the others' type.
        parts = [part.dropna(axis="columns", how="all") for part in parts]
        return pd.concat(parts).reindex(columns=names).set_index("index")

    def to_csv(self, target: str | Path | TextIO, *, spreadsheet: bool = False) -> int:
        """Write CSV to a path or an open text file; returns the number of rows.

        Missing values are empty, lists and dicts are JSON, times are ISO 8601. Texts are as they are, unless
        the file is for a ``spreadsheet``: then those that it would run, which begin with ``=``, ``+``, ``-``
        or ``@``, get a ``'`` in front.
        """
        cell = _unarmed if spreadsheet else _cell
        with Snapshot(self._records()) as snapshot, _opened(target) as file:
            writer = csv.writer(_Lines(file), lineterminator="\r\n")
            writer.writerow(map(cell, snapshot.columns.names()))
            for batch in snapshot.batches():
                columns = [map(cell, values) for _, values in snapshot.columns.cells(batch)]
                writer.writerows(zip(*columns, strict=True))
            return len(snapshot)

    def to_parquet(self, target: str | Path) -> int:
        """Write a Parquet file in row groups of a few MiB; returns the number of rows.

        Lists become lists, dicts that all have the same keys become structs. A column whose values fit no
        common type holds them as JSON text, and says so in its metadata (``cloudburst: json``). Raises
        ConfigError where pyarrow is not installed (the extra ``[frames]``).
        """
        with extras.needed("frames", "Parquet"):
            import pyarrow as pa
            import pyarrow.parquet as pq

        from cloudburst.results import arrow

        with Snapshot(self._records()) as snapshot, _replaced(Path(target)) as path:
            fields: dict[str, pa.Field] = {}
            for batch in snapshot.batches():
                for name, values in snapshot.columns.cells(batch):
                    field = arrow.field(name, values)
                    fields[name] = arrow.merged(fields[name], field) if name in fields else field
            for name in snapshot.columns.inexact(len(snapshot)):
                fields[name] = arrow.exact(fields[name])
            schema = pa.schema(list(fields.values()))
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for batch in snapshot.batches():
                    columns = snapshot.columns.cells(batch)
                    arrays = [arrow.array(values, fields[name]) for name, values in columns]
                    writer.write_table(pa.table(arrays, schema=schema))
            return len(snapshot)

    def to_json_lines(self, target: str | Path | TextIO) -> int:
        """Write one JSON object per record to a path or an open text file; returns how many.

        Records are written as they are read, in the order in which the jobs ended, each with the keys index,
        job_id, state, description, value, attempt, node, started_at, duration_s, error, fingerprint and
        payload (its digest, null for a job that never ran). A value that is not a number is written as NaN,
        which Python's json and pandas read.
        """
        count = 0
        with _opened(target) as file:
            for record in self._records():
                file.write(nested.dumps(_object(record)) + "\n")
                count += 1
        return count

    def head(self, rows: int = 20) -> tuple[list[str], list[list[Any]]]:
        """Column names and rows of the jobs that ended first, without reading the others."""
        with Snapshot(islice(self._records(), rows)) as snapshot:
            columns = snapshot.columns
            cells = [values for _, values in columns.cells(list(snapshot))]
            return columns.names(), [list(row) for row in zip(*cells, strict=True)]


def _series(name: str, values: list[Any], exact: bool) -> Any:
    import pandas as pd

    if name == "started_at":
        return pd.Series(pd.DatetimeIndex(values, dtype="datetime64[us, UTC]"))
    try:
        return pd.Series(values, dtype=object if exact else None)
    except UnicodeEncodeError:  # a lone surrogate: legal in JSON, not in the UTF-8 of pandas' texts
        return pd.Series(values, dtype=object)


class _Lines:
    """Ends rows with ``\\n``, though the writer believes that they end with ``\\r\\n``.

    Else it leaves a text with ``\\r`` without quotes, and readers take that for the end of a row.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row[:-2] + "\n")


def _unarmed(value: Any) -> Any:
    text = _cell(value)
    return f"'{text}" if isinstance(text, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _object(record: JobRecord) -> dict[str, Any]:
    before = ("index", "job_id", "state", "description", "value")
    return {name: getattr(record, name) for name in before} | {
        name: _cell(after(record, name)) for name in (*AFTER, PAYLOAD)
    }


@contextlib.contextmanager
def _opened(target: str | Path | TextIO) -> Iterator[IO[str]]:
    """An open file as it is; for a path a file that is in its place only once it is complete."""
    if not isinstance(target, str | Path):
        yield target
        return
    # For lone surrogates, which are legal in JSON, not in UTF-8.
    with (
        _replaced(Path(target)) as path,
        path.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file,
    ):
        yield file


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, which takes its place at the end, or is removed on an error."""
    if path.exists() and not path.is_file():  # such as /dev/stdout, or a pipe
        yield path
        return
    path = Path(os.path.realpath(path))  # of a link, what it leads to is replaced
    part = path.parent / f".cloudburst-{os.getpid()}-{time.monotonic_ns()}"
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
