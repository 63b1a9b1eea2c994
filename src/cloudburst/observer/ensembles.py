"""Points about ensembles: those in progress with each round, young ones and ends each second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from cloudburst import names
from cloudburst.model import EnsembleStatus
from cloudburst.observer.failures import Failures
from cloudburst.pace import Pace
from cloudburst.points import line
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.ensembles import Ensembles

RECENT = 50
"""The latest so many are looked at, and so many of those that have jobs waiting, the oldest of them."""

MOST = 200
"""More than so many are not followed at a time: the oldest of them are left out."""

DOTS = 2000
"""A picture of an ensemble's results has at most so many dots, each for the mean of some jobs."""

YOUNG_S = 60.0
"""An ensemble that is younger is measured each second: many do not get older."""

NEW = 10
"""So many of the latest ensembles are looked at each second, beside those in progress."""

SAID_CHARS = 500
"""So much is kept of errors and notes."""

_NS = 10**9


@dataclass
class _Followed:
    """An ensemble since it was first seen."""

    failures: Failures
    pace: Pace = field(default_factory=Pace)
    last: EnsembleStatus | None = None
    """As it was in the round before."""
    written_ns: int = 0
    """Time of its latest point."""


class EnsemblePoints:
    """Follows ensembles. What a round that fails has left out is in the next one."""

    def __init__(self, client: Redis, queue: str) -> None:
        self._redis = client
        self._queue = queue
        self._ensembles = Ensembles(client)
        self._followed: dict[str, _Followed] = {}
        self.in_progress = 0
        """How many are, of those that are followed."""

    def lines(self, now: float) -> Iterator[str]:
        """Line protocol without newlines of what has changed or goes on; ``now`` is Unix time in seconds."""
        statuses = self._ensembles.statuses(self._ids())
        self._followed = {one.id: self._followed.get(one.id) or self._new(one.id) for one in statuses}
        self.in_progress = sum(not one.complete for one in statuses)
        for one in statuses:
            yield from self._points(one, self._followed[one.id], now)

    def quick_lines(self, now: float) -> Iterator[str]:
        """As ``lines``, between two rounds: of what is new or young, and of what has ended since."""
        ids = list(dict.fromkeys([*self._ensembles.ids(NEW), *self._going_on()]))[:RECENT]
        for one in self._ensembles.statuses(ids):
            if one.complete or now - one.created_at < YOUNG_S:
                followed = self._followed.setdefault(one.id, self._new(one.id))
                yield from self._points(one, followed, now)

    def _going_on(self) -> list[str]:
        """Those that had not ended when last seen."""
        return [name for name, one in self._followed.items() if one.last and not one.last.complete]

    def _new(self, ensemble: str) -> _Followed:
        return _Followed(Failures(self._redis, ensemble))

    def _ids(self) -> list[str]:
        """Latest first: those of late, those with jobs that wait, those that had not ended when last seen."""
        waiting = cast("list[bytes]", self._redis.zrange(f"cb:open:{self._queue}", 0, RECENT - 1))
        ids = self._ensembles.ids(RECENT) + [ensemble.decode() for ensemble in waiting]
        return list(dict.fromkeys(ids + self._going_on()))[:MOST]

    def _points(self, one: EnsembleStatus, followed: _Followed, now: float) -> Iterator[str]:
        last = followed.last
        tags = {"ensemble": one.id}
        if last is None:
            # Their times are the ensemble's own: another observer after this one writes the same points.
            begun_ns = int(one.created_at * _NS)
            told = {"id": one.id, "function": one.function, "payload": one.payload[:12]}
            yield line.encode(names.MEASUREMENT_BEGUN, told, tags, begun_ns)
            nothing = dict.fromkeys(_counts(one), 0) | {"progress_percent": 0.0}
            yield line.encode(names.MEASUREMENT_ENSEMBLE, nothing, tags, begun_ns)
        if one.complete and one == last:
            return
        followed.pace.observe(one, now if not one.complete else self._end(one))
        time_ns = int((self._end(one) if one.complete else now) * _NS)
        time_ns = followed.written_ns = max(time_ns, followed.written_ns + 1)
        yield line.encode(names.MEASUREMENT_ENSEMBLE, _fields(one, followed.pace), tags, time_ns)
        if one.failed or (last and last.failed):
            yield from followed.failures.lines(time_ns)
        followed.last = one

    def _end(self, one: EnsembleStatus) -> float:
        """When its last job ended: an entry of a stream begins with the milliseconds of its time."""
        entries = cast("Any", self._redis.xrevrange(f"cb:ens:{one.id}:results", count=1))
        if not entries:
            return one.appended_at
        return int(entries[0][0].partition(b"-")[0]) / 1000


def _fields(one: EnsembleStatus, pace: Pace) -> Mapping[str, int | float | str | None]:
    left_s = 0.0 if one.complete else pace.left_s(one)
    said = (one.error or one.note)[:SAID_CHARS]
    first, last = span_ns(one)
    return {
        **_counts(one),
        "state": one.state,
        "said": said,
        "state_said": f"{one.state}: {said}" if said else one.state,
        "progress_percent": 100.0 * one.ended / one.total if one.total else 0.0,
        "jobs_per_s": float(pace.per_s),
        "left_s": left_s,
        "jobs_per_dot": interval(one.total),
        "jobs_from": str(first),
        "jobs_to": str(last),
    }


def _counts(one: EnsembleStatus) -> dict[str, int]:
    return {
        "total": one.total,
        "waiting": one.waiting,
        "running": one.running,
        "finished": one.finished,
        "failed": one.failed,
        "cancelled": one.cancelled,
        "ended": one.ended,
    }


def span_ns(one: EnsembleStatus) -> tuple[int, int]:
    """The times of its results lie within these, in nanoseconds: one job after the other, 1 µs apart.

    A query by time that does not say this asks for all centuries, which the database refuses.
    """
    begun_us = int(one.created_at * 10**6)
    return (begun_us - 1) * 1000, (begun_us + one.total + 1) * 1000


def interval(jobs: int) -> str:
    """Time, in InfluxQL, that as many points of results span as one dot stands for: they lie 1 µs apart."""
    power = 0
    while jobs > DOTS * 10**power:
        power += 1
    return f"{10**power}u"
