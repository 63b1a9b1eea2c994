"""Points about failures: how many jobs of an ensemble failed in the same way, and one example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from cloudburst import names
from cloudburst.points import line
from cloudburst.rqwire.connection import Redis

KINDS = 20
"""So many fingerprints of an ensemble have a series each; all others share one."""

READ = 500
"""About so many fingerprints are read, of however many there are."""

OTHERS = "others"
ERROR_CHARS = 300
FINGERPRINT_CHARS = 40


class Failures:
    """Those of one ensemble. Fingerprints have a series that were frequent when they were first seen."""

    def __init__(self, client: Redis, ensemble: str) -> None:
        self._redis = client
        self._ensemble = ensemble
        self._known: dict[str, str] = {}
        """Fingerprints that have a series, each with an example's error."""

    def lines(self, time_ns: int) -> Iterator[str]:
        """Line protocol without newlines; those that were retried have 0 jobs."""
        # Not HGETALL: an ensemble in which each job fails in its own way has as many fields as jobs.
        _, read = cast("Any", self._redis.hscan(f"cb:ens:{self._ensemble}:failures", count=READ))
        counts = {fingerprint.decode(): int(count) for fingerprint, count in read.items()}
        for fingerprint in sorted(counts, key=lambda name: -counts[name]):
            if len(self._known) >= KINDS:
                break
            if fingerprint not in self._known:
                self._known[fingerprint] = self._error(fingerprint)
        for fingerprint, error in self._known.items():
            yield self._point(fingerprint, counts.pop(fingerprint, 0), error, time_ns)
        if counts:
            yield self._point(OTHERS, sum(counts.values()), "of other kinds: `cloudburst failures`", time_ns)

    def _error(self, fingerprint: str) -> str:
        """The error of the example, "" if it is gone."""
        key = f"cb:ens:{self._ensemble}"
        job_id = cast("bytes | None", self._redis.hget(f"{key}:examples", fingerprint))
        entry = self._redis.hget(f"rq:job:{job_id.decode()}", "cb_entry") if job_id else None
        found = cast("Any", self._redis.xrange(f"{key}:results", entry, entry)) if entry else []
        return found[0][1][b"error"].decode("utf-8", "replace")[:ERROR_CHARS] if found else ""

    def _point(self, fingerprint: str, jobs: int, error: str, time_ns: int) -> str:
        tags = {"ensemble": self._ensemble, "fingerprint": fingerprint[:FINGERPRINT_CHARS] or "none"}
        return line.encode(names.MEASUREMENT_FAILURE, {"jobs": jobs, "error": error}, tags, time_ns)
