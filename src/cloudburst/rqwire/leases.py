"""The worker's side of the queue: claim, beat, finish, give back, reap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.scripts import Scripts

MAX_ATTEMPTS = 3
"""How often a stock job may lose its worker or executor before it is set aside."""

POISON = "lost"
"""Fingerprint of jobs that were set aside because they lost too many workers."""

QUIET_S = 5.0
"""Without any reap for so long, Redis was out of reach: leases are extended before the next one."""

Answer = Literal["recorded", "retried", "repeated", "stale"]


@dataclass(frozen=True)
class Claim:
    """One attempt of one job that this worker holds the lease of."""

    job_id: str
    owner: str
    """Names this attempt, unlike any other."""
    attempt: int
    timeout_s: int
    """0: no limit."""
    ensemble: str
    index: int
    payload: str
    """Digest; "" for the current ``worker.zip``."""
    created_at: float
    """When the ensemble was created, Unix time in seconds; 0 for a stock job."""
    data: bytes
    """As the client's serializer wrote it."""

    @property
    def pickled(self) -> bool:
        return encoding.is_pickled(self.data)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    claim: Claim
    state: Literal["finished", "failed"]
    started_at: float
    duration_s: float
    value: bytes = b""
    """JSON of what the function returned."""
    error: str = ""
    fingerprint: str = ""
    traceback: str = ""
    output: bytes = b""


@dataclass(frozen=True)
class Loss:
    """An attempt that goes back: ``reason`` is "" when it was never started."""

    claim: Claim
    reason: str = ""
    fingerprint: str = POISON
    output: bytes = b""
    started_at: float = 0.0


class Leases:
    """The lease scheme for one worker on one queue. Calls may be repeated; they raise redis-py errors."""

    def __init__(self, client: Redis, *, queue: str, worker: str, node: str, lease_s: float) -> None:
        self._call = Scripts(client)
        self._queue = queue
        self._worker = worker
        self._node = node
        self._lease_s = lease_s
        self._claims = 0

    def claim(self, count: int) -> list[Claim]:
        """Take up to ``count`` jobs from the head of the queue.

        If the reply is lost, the jobs come back when their leases run out: nobody beats for them.
        """
        self._claims += 1
        owner = f"{self._worker}.{self._claims}"
        rows = self._call("claim", self._queue, owner, self._worker, count, self._lease_s)
        return [_claim(owner, row) for row in rows]

    def beat(self, claims: Iterable[Claim]) -> set[str]:
        """Extend the leases of ``claims``; returns the ids of jobs that are not ours any more."""
        pairs = [text for claim in claims for text in (claim.job_id, claim.owner)]
        if not pairs:
            return set()
        return {job_id.decode() for job_id in self._call("beat", self._queue, self._lease_s, *pairs)}

    def finish(self, outcomes: Sequence[Outcome]) -> list[Answer]:
        """Make jobs final; one answer per outcome."""
        args = [argument for outcome in outcomes for argument in _finish_arguments(outcome)]
        return [
            answer.decode() for answer in self._call("finish", self._queue, self._node, self._worker, *args)
        ]

    def give_back(self, losses: Sequence[Loss]) -> list[str]:
        """Return jobs to the head of the queue; answers ``returned``, ``aside`` or ``stale`` each."""
        args: list[str | bytes | int] = []
        for loss in losses:
            args += [loss.claim.job_id, loss.claim.owner, loss.reason, loss.fingerprint]
            args += [
                encoding.exception(loss.reason),
                encoding.output(loss.output),
                int(loss.started_at * 1000),
            ]
        return [
            answer.decode()
            for answer in self._call("give_back", self._queue, self._node, MAX_ATTEMPTS, *args)
        ]

    def reap(self) -> tuple[list[str], list[str]]:
        """Return jobs whose lease has run out; the ids that came back and those that were set aside."""
        back, aside = self._call(
            "reap", self._queue, self._lease_s, QUIET_S, MAX_ATTEMPTS, POISON, _lost_exception()
        )
        return [job_id.decode() for job_id in back], [job_id.decode() for job_id in aside]

    def abandon(self, worker: str) -> list[str]:
        """Return the jobs of a worker that is known to be dead at once; their ids."""
        ids = self._call("abandon", self._queue, f"{worker}.", MAX_ATTEMPTS, POISON, _lost_exception())
        return [job_id.decode() for job_id in ids]


def _lost_exception() -> bytes:
    return encoding.exception("The job lost its worker each time it ran.")


def _claim(owner: str, row: Sequence[Any]) -> Claim:
    job_id, attempt, timeout, ensemble, index, payload, created, data = row
    return Claim(
        job_id=job_id.decode(),
        owner=owner,
        attempt=attempt,
        timeout_s=max(int(timeout or 0), 0),
        ensemble=ensemble.decode(),
        index=int(index or -1),
        payload=payload.decode(),
        created_at=float(created),
        data=encoding.plain_data(data),
    )


def _finish_arguments(outcome: Outcome) -> tuple[str | bytes | int | float, ...]:
    claim = outcome.claim
    finished = outcome.state == "finished"
    return (
        claim.job_id,
        claim.owner,
        outcome.state,
        int(outcome.started_at * 1000),
        round(outcome.duration_s * 1000, 3),
        outcome.value,
        encoding.return_value(outcome.value, pickled=claim.pickled) if finished else b"",
        outcome.error,
        outcome.fingerprint,
        b"" if finished else encoding.exception(outcome.traceback or outcome.error),
        b"" if finished else encoding.output(outcome.output),
        0 if finished else 1,
    )
