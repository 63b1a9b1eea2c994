"""The embedded database of points: one SQLite file with InfluxDB's rules.

A point with the measurement, tags and time of an earlier one replaces that one's fields one by one and
keeps the others. A field keeps the type of its first value: a point that brings another is refused, as
InfluxDB does, so that what works on a laptop works on a swarm.

``write`` returns after SQLite has synced its log to the disk (``synchronous=FULL``), so neither a killed
process nor a power cut loses a point that was acknowledged.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cloudburst.errors import PointsError
from cloudburst.points import fieldtypes
from cloudburst.points.fieldtypes import FieldTypes, PointRefused
from cloudburst.points.parse import TIME_LIMIT, FieldValue, Point, Series

VERSION = 1
"""Of the schema; a file of another version is refused."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS series(
    id INTEGER PRIMARY KEY,
    measurement TEXT NOT NULL,
    tags TEXT NOT NULL,            -- JSON object, sorted by key
    UNIQUE(measurement, tags));
CREATE INDEX IF NOT EXISTS series_by_measurement ON series(measurement);
CREATE TABLE IF NOT EXISTS points(
    series INTEGER NOT NULL,
    time INTEGER NOT NULL,         -- ns since 1970
    fields TEXT NOT NULL,          -- JSON object
    PRIMARY KEY(series, time)) WITHOUT ROWID;
"""

POINT_LIMIT = 4 << 20
"""Characters of all fields of one point, as adding to it takes time in proportion to what is there."""

_UPSERT = (
    "INSERT INTO points VALUES(?, ?, ?) ON CONFLICT(series, time) DO UPDATE SET fields = CASE"
    f" WHEN length(fields) + length(excluded.fields) > {POINT_LIMIT} THEN refused_addition(fields)"
    " ELSE json_patch(fields, excluded.fields) END"
)
_SLICE = 5_000
"""Points that are in memory at a time, whatever the size of the write."""
_CACHED_SERIES = 100_000
_PAGE = 5_000
_PAGE_CHARS = 2 * POINT_LIMIT
"""Points may be large: a page is full with these, too."""

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True)
class Selection:
    """Points of one measurement: those with all these tags, from ``start`` up to but without ``end`` (ns)."""

    measurement: str
    tags: Mapping[str, str]
    start: int = -TIME_LIMIT
    end: int = TIME_LIMIT + 1


@dataclass(frozen=True)
class Measurement:
    """What is stored under one name."""

    name: str
    series: int
    points: int


@dataclass(frozen=True)
class Page:
    """Some points of one series as they are stored: tags and fields in JSON, in the order of time."""

    tags: str
    rows: list[tuple[int, str]]


class Store:
    """The database. One thread writes at a time; any number reads meanwhile."""

    def __init__(self, path: Path) -> None:
        """Open the database, or make it (PointsError when that cannot be done)."""
        self._path = path
        self._lock = threading.Lock()
        self._series: dict[Series, int] = {}
        self._refused: Counter[str] = Counter()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect()
            self._prepare()
            self._connection.create_function("refused_addition", 1, self._refuse_addition)
            self._types = FieldTypes(self._connection)
        except (sqlite3.Error, OSError) as error:
            raise PointsError(f"cannot open the database of points {path}: {error}") from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def write(self, points: Iterable[Point]) -> Counter[str]:
        """Store all points, or none when ``points`` raises; return why how many of them were refused.

        The dictionaries of their fields are taken over.

        Raises sqlite3.Error when the disk is full or fails; then nothing was stored either.
        """
        with self._lock:
            self._refused = refused = Counter[str]()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                remaining = iter(points)
                while some := list(islice(remaining, _SLICE)):
                    self._connection.executemany(_UPSERT, self._rows(some))
                self._connection.execute("COMMIT")
            except BaseException:
                self._undo()
                raise
        return refused

    def measurements(self) -> list[Measurement]:
        """What is stored, by name. Takes time in proportion to the number of points."""
        query = (
            "SELECT measurement, count(*), sum((SELECT count(*) FROM points WHERE series = id))"
            " FROM series GROUP BY measurement ORDER BY measurement"
        )
        with closing(self._connect()) as connection:
            return [Measurement(*row) for row in connection.execute(query)]

    def fields(self, measurement: str = "") -> list[tuple[str, str, str]]:
        """Measurement, name and type of the fields of that measurement, or of all; sorted."""
        query = "SELECT measurement, name, type FROM fields WHERE ? IN (measurement, '') ORDER BY 1, 2"
        with closing(self._connect()) as connection:
            return connection.execute(query, (measurement,)).fetchall()

    def tags(self, measurement: str = "") -> Iterator[tuple[str, str, str]]:
        """Measurement, key and value of the tags of that measurement, or of all; each once, sorted."""
        query = (
            "SELECT DISTINCT measurement, tag.key, tag.value FROM series, json_each(series.tags) AS tag"
            " WHERE ? IN (measurement, '') ORDER BY 1, 2, 3"
        )
        with closing(self._connect()) as connection:
            yield from connection.execute(query, (measurement,))

    def count(self, selection: Selection) -> int:
        """How many points are selected."""
        with closing(self._connect()) as connection:
            query = "SELECT count(*) FROM points WHERE series = ? AND time >= ? AND time < ?"
            return sum(
                connection.execute(query, (series, selection.start, selection.end)).fetchone()[0]
                for series, _ in _series_of(connection, selection)
            )

    def points(self, selection: Selection) -> Iterator[Point]:
        """The selected points, series by series, each in the order of time."""
        for page in self.pages(selection):
            series = Series(selection.measurement, tuple(json.loads(page.tags).items()))
            for time, fields in page.rows:
                yield Point(series, time, json.loads(fields))

    def pages(self, selection: Selection) -> Iterator[Page]:
        """As ``points``, some at a time: a slow reader neither fills memory nor keeps the log growing.

        The pages need not show one moment: points that are written meanwhile may be among them.
        """
        query = (
            "SELECT time, fields FROM points WHERE series = ? AND time >= ? AND time < ?"
            " ORDER BY time LIMIT ?"
        )
        with closing(self._connect()) as connection:
            for series, tags in _series_of(connection, selection):
                start, more = selection.start, True
                while more:
                    rows, size = [], 0
                    for row in connection.execute(query, (series, start, selection.end, _PAGE)):
                        rows.append(row)
                        size += len(row[1])
                        if size > _PAGE_CHARS:
                            break
                    if rows:
                        yield Page(tags, rows)
                    more = len(rows) == _PAGE or size > _PAGE_CHARS
                    start = rows[-1][0] + 1 if more else start

    def _connect(self) -> sqlite3.Connection:
        # A connection is used by one thread at a time, though not always the same one.
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _prepare(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise PointsError(
                f"{self._path}: made by another version of CloudBurst (schema {version}, this one knows"
                f" {VERSION}): move it away to start with an empty database"
            )
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.executescript(SCHEMA + fieldtypes.SCHEMA)
        self._connection.execute(f"PRAGMA user_version={VERSION}")

    def _rows(self, points: list[Point]) -> Iterator[tuple[int, int, str]]:
        """What of ``points`` can be stored. Those of the same series and time come as one."""
        rows: dict[tuple[Series, int], dict[str, FieldValue]] = {}
        for series, time, fields in points:
            try:
                self._types.check(series.measurement, fields)
            except PointRefused as reason:
                self._refused[str(reason)] += 1
                continue
            before = rows.setdefault((series, time), fields)
            if before is not fields:
                before.update(fields)
        for (series, time), fields in rows.items():
            number = self._series.get(series) or self._series_id(series)
            yield number, time, self._types.to_json(series.measurement, fields)

    def _refuse_addition(self, fields: str) -> str:
        self._refused[f"point too large: its fields have at most {POINT_LIMIT} characters together"] += 1
        return fields

    def _series_id(self, series: Series) -> int:
        if len(self._series) >= _CACHED_SERIES:
            self._series.clear()
        row = (series.measurement, _to_json(dict(series.tags)))
        self._connection.execute("INSERT OR IGNORE INTO series(measurement, tags) VALUES(?, ?)", row)
        query = "SELECT id FROM series WHERE measurement = ? AND tags = ?"
        number: int = self._connection.execute(query, row).fetchone()[0]
        self._series[series] = number
        return number

    def _undo(self) -> None:
        """Roll back, and forget the series and types of which the database knows no more."""
        self._series.clear()
        self._types.forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _series_of(connection: sqlite3.Connection, selection: Selection) -> Iterator[tuple[int, str]]:
    """Id and tags (JSON) of the series that have all these tags, by id."""
    query = (
        "SELECT id, tags FROM series WHERE measurement = ? AND id > ?"
        " AND NOT EXISTS (SELECT 1 FROM json_each(?) AS wanted WHERE NOT EXISTS (SELECT 1"
        " FROM json_each(series.tags) AS tag WHERE tag.key = wanted.key AND tag.value = wanted.value))"
        " ORDER BY id LIMIT ?"
    )
    wanted, last = _to_json(dict(selection.tags)), 0
    while some := connection.execute(query, (selection.measurement, last, wanted, _PAGE)).fetchall():
        yield from some
        last = some[-1][0]
