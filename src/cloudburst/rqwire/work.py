"""How much work waits in a queue: jobs, and how long they take as far as that has shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis, found
from cloudburst.rqwire.held import held

ENSEMBLES = 20
"""So many ensembles that have jobs waiting are looked at, the oldest: theirs start first."""

SAMPLE = 20
"""The latest so many jobs of each say how long its others will take."""


@dataclass(frozen=True)
class Work:
    """A queue at one moment."""

    waiting: int
    work_s: float | None
    """How long one slot would take for all jobs that wait; None: nobody knows yet."""


def read(client: Redis, queue: str, now: float) -> Work:
    """How it is; ``now`` is Unix time in seconds. Raises what redis-py raises."""
    waiting = int(cast("Any", client.llen(f"rq:queue:{queue}")))
    ids = cast("list[bytes]", client.zrange(f"cb:open:{queue}", 0, ENSEMBLES - 1))
    ensembles = [encoding.name(name) for name in ids]
    with client.pipeline(transaction=False) as pipe:
        for name in ids:
            key = b"cb:ens:" + name
            pipe.hmget(key, "submitted", "running", "finished", "failed", "cancelled", "note")
            pipe.xrevrange(key + b":results", count=SAMPLE)
        rows = found(pipe, list)
    keys = cast("set[bytes]", client.smembers("rq:workers"))
    ages = _ages(client, queue, now)
    known_jobs, known_s, counted = 0, 0.0, 0
    for ensemble, counts, records in zip(ensembles, rows[::2], rows[1::2], strict=True):
        jobs = _waiting(counts)
        counted += jobs
        mean_s = _mean(records)
        noted = counts and counts[-1]  # the environment is being built, jobs take no time yet
        if mean_s is None and not noted:
            mean_s = ages.get(ensemble)
        if mean_s is not None:
            known_jobs += jobs
            known_s += jobs * mean_s
    rest_s = _mean_of_workers(client, sorted(keys))
    others = max(waiting - counted, 0)
    if rest_s is not None and others:
        known_jobs += others
        known_s += others * rest_s
    if not waiting or not known_jobs:
        return Work(waiting, None if waiting else 0.0)
    # Those of which nothing is known will take as long as the others.
    return Work(waiting, known_s / known_jobs * waiting)


def _waiting(counts: list[bytes | None]) -> int:
    submitted, *placed = map(encoding.whole, counts[:5] or [None])
    return max(submitted - sum(placed), 0)


def _mean(records: list[tuple[bytes, dict[bytes, bytes]]]) -> float | None:
    """Mean duration in seconds of jobs that finished; those that failed may have done so at once."""
    durations = [
        encoding.number(fields.get(b"duration_ms")) / 1000
        for _, fields in records
        if fields.get(b"state") == b"finished"
    ]
    return sum(durations) / len(durations) if durations else None


def _ages(client: Redis, queue: str, now: float) -> dict[str, float]:
    """How long jobs of each ensemble have been running, on average: they will not take less."""
    by_ensemble: dict[str, list[float]] = {}
    for job in held(client, queue):
        by_ensemble.setdefault(job.job_id.rpartition("-")[0], []).append(max(now - job.since, 0.0))
    return {ensemble: sum(ages) / len(ages) for ensemble, ages in by_ensemble.items()}


def _mean_of_workers(client: Redis, keys: list[bytes]) -> float | None:
    """Mean duration in seconds of the jobs that the workers have run, of stock clients' too."""
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hmget(key, ["total_working_time", "successful_job_count", "failed_job_count"])
        rows = [row for row in found(pipe, list) if row]
    jobs = sum(encoding.whole(good) + encoding.whole(bad) for _, good, bad in rows)
    return sum(encoding.number(spent) for spent, *_ in rows) / jobs if jobs else None
