"""The records of one moment, in the order of their jobs, on disk once they are many."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import repeat
from types import TracebackType
from typing import Any, cast

from cloudburst import nested
from cloudburst.model import JobRecord
from cloudburst.results.columns import Columns

IN_MEMORY_BYTES = 32 * 1024 * 1024
"""Records beyond so many bytes go to a temporary file."""

BATCH_BYTES = 4 * 1024 * 1024
"""Records that are turned into columns at a time, as JSON: their Python objects take several times that."""

_NOT_YET = -1
"""The place of a job that has no record so far."""

_FIELDS = tuple(field.name for field in fields(JobRecord))


class Snapshot:
    """Reads records once, and then yields them as often as needed, by index, without holding them.

    Records come in the order in which jobs ended; a table wants them in the order of the jobs, and knows its
    columns only after the last record. What stays in memory is 8 bytes per job. Of a job that was
    retried while its records were read, the later record counts.
    """

    def __init__(self, records: Iterable[JobRecord]) -> None:
        self.columns = Columns()
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115  closed by __exit__
        self._places = array("q")
        for record in records:
            self._put(record.index, self._file.tell())
            line = nested.dumps([getattr(record, name) for name in _FIELDS]).encode() + b"\n"
            self._file.write(line)
            self.columns.learn(record)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._places) - self._places.count(_NOT_YET)

    def __iter__(self) -> Iterator[JobRecord]:
        return (_record(line) for line in self._lines())

    def batches(self) -> Iterator[list[JobRecord]]:
        """All records in lists of about ``BATCH_BYTES``; one empty list if there are none."""
        batch: list[JobRecord] = []
        size = 0
        for line in self._lines():
            batch.append(_record(line))
            size += len(line)
            if size > BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch or not self:
            yield batch

    def _lines(self) -> Iterator[bytes]:
        position = -1
        for place in self._places:
            if place == _NOT_YET:
                continue
            if place != position:
                self._file.seek(place)
            line = self._file.readline()
            position = place + len(line)
            yield line

    def _put(self, index: int, place: int) -> None:
        missing = index + 1 - len(self._places)
        if missing > 0:
            self._places.extend(repeat(_NOT_YET, missing))
        self._places[index] = place


def _record(line: bytes) -> JobRecord:
    return JobRecord(*cast("list[Any]", nested.loads(line)))
