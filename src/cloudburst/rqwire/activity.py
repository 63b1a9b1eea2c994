"""Whether a stack has anything to do, and when it last had: from what Redis holds, not from watching it."""

from __future__ import annotations

from dataclasses import dataclass

from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.ensembles import INDEX

RECENT = 50
"""Ensembles that are looked at for their latest jobs: the latest, and the oldest with jobs that wait."""

REGISTRIES = ("finished", "failed", "canceled")


@dataclass(frozen=True)
class Activity:
    """A queue at one moment."""

    waiting: int
    """Jobs in the queue, and those that are to come into it at a time."""
    running: int
    latest_at: float
    """Unix time in seconds when a job was last accepted or ended, as far as it is known; 0: never."""

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)


def read(client: Redis, queue: str) -> Activity:
    """How it is now: four round trips. Raises what redis-py raises."""
    with client.pipeline(transaction=False) as pipe:
        pipe.llen(f"rq:queue:{queue}")
        # Not those that wait for other jobs: they would wait for ever for one that has failed.
        pipe.zcard(f"rq:scheduled:{queue}")
        pipe.zcard(f"cb:lease:{queue}")
        pipe.zrevrange(INDEX, 0, RECENT - 1)
        pipe.zrange(f"cb:open:{queue}", 0, RECENT - 1)
        for registry in REGISTRIES:
            # By when they are forgotten: of jobs that are kept equally long, the last to end is first.
            pipe.zrevrange(f"rq:{registry}:{queue}", 0, 0)
        waiting, scheduled, running, recent, with_jobs, *last = pipe.execute()
    ensembles = list(dict.fromkeys([*recent, *with_jobs]))
    jobs = [job_id for found in last for job_id in found]
    return Activity(waiting + scheduled, running, _latest(client, ensembles, jobs))


def _latest(client: Redis, ensembles: list[bytes], jobs: list[bytes]) -> float:
    with client.pipeline(transaction=False) as pipe:
        for ensemble in ensembles:
            pipe.hget(b"cb:ens:" + ensemble, "appended_at")
        for ensemble in ensembles:
            pipe.xinfo_stream(b"cb:ens:" + ensemble + b":results")
        for job_id in jobs:
            pipe.hget(b"rq:job:" + job_id, "ended_at")
        answers = pipe.execute(raise_on_error=False)
    count = len(ensembles)
    appended, streams, ended = answers[:count], answers[count : 2 * count], answers[2 * count :]
    times = [encoding.number(at) for at in appended if isinstance(at, bytes)]
    # A stream that does not exist is answered with an error: its ensemble has no records.
    times += [_entry_at(one["last-generated-id"]) for one in streams if isinstance(one, dict)]
    times += [encoding.timestamp(at) for at in ended if isinstance(at, bytes)]
    return max(times, default=0.0)


def _entry_at(entry: bytes) -> float:
    """An entry's id begins with the milliseconds of its time."""
    return int(entry.partition(b"-")[0]) / 1000
