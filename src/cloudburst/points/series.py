"""Points are left out where an ensemble would have more series than the database can bear."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import redis

from cloudburst.errors import QueueError
from cloudburst.log import Repeats
from cloudburst.points.parse import beginnings_of, keys_of, series_of, whole_lines
from cloudburst.rqwire.series import Labels, SeriesCounts

log = logging.getLogger(__name__)

REMEMBERED = 50_000
"""Series that are not asked about again; some 4 MB."""


class Refused(NamedTuple):
    """Series that an ensemble may not have."""

    keys: set[bytes]
    why: str

    def without(self, lines: bytes) -> bytes:
        """The lines of other series."""
        return b"".join(line for line in whole_lines(lines) if not self.keys & keys_of(line))


class SeriesLimit:
    """Looks at lines of jobs on their way to the database; one thread uses it."""

    def __init__(self, counts: SeriesCounts) -> None:
        self._counts = counts
        self._known: set[int] = set()
        """Hashes of keys that may be written, with their ensembles: most lines need no question."""
        self._repeats = Repeats()

    def refused(self, several: Mapping[str, bytes]) -> dict[str, Refused]:
        """Which series of these lines, by the id of their ensemble, may not be written.

        Raises QueueError while Redis cannot be asked about new ones; then nothing was decided.
        """
        unknown = {ensemble: self._unknown(ensemble, lines) for ensemble, lines in several.items()}
        new = {ensemble: list(keys) for ensemble, keys in unknown.items() if keys}
        if not new:
            return {}
        try:
            counted = self._counts.count({ensemble: map(_labels, keys) for ensemble, keys in new.items()})
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise QueueError(f"series of points cannot be counted: {error}") from error
        except redis.RedisError as error:
            # Waiting would not help: the points go on.
            if times := self._repeats.worth_saying("uncounted"):
                log.warning("series of points are not counted (%s times so far): %s", f"{times:,}", error)
            return {}
        found = {}
        for ensemble, keys in new.items():
            marks, tag = counted[ensemble]
            self._remember(ensemble, [key for key, no in zip(keys, marks, strict=True) if not no])
            if any(marks):
                its = {key for key, no in zip(keys, marks, strict=True) if no}
                found[ensemble] = Refused(its, self._reason(tag))
        return found

    def _unknown(self, ensemble: str, lines: bytes) -> set[bytes]:
        known = self._known
        unknown = {key for key in beginnings_of(lines) if hash((ensemble, key)) not in known}
        if unknown and (b'"' in lines or b"\\" in lines):
            unknown = {key for key in keys_of(lines) if hash((ensemble, key)) not in known}
        return unknown

    def _remember(self, ensemble: str, keys: Sequence[bytes]) -> None:
        if len(self._known) + len(keys) > REMEMBERED:
            self._known.clear()
        self._known.update(hash((ensemble, key)) for key in keys[:REMEMBERED])

    def _reason(self, tag: str) -> str:
        # No count of values: each worker would tell another, and one warning is enough.
        what = f"the tag {tag} has most values" if tag else "there are many measurements"
        return (
            f"its jobs write more than {self._counts.limit:,} series of points, and those of further series "
            f"are left out: {what} (docs/time-series.md, What a tag may be)"
        )


def _labels(key: bytes) -> Labels:
    series = series_of(key.decode("utf-8", "replace"))
    return (("", series.measurement), *series.tags)
