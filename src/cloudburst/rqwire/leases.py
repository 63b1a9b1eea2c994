"""The worker's side of the queue: claim, beat, finish, give back, reap."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

from cloudburst.rqwire import encoding, seeds
from cloudburst.rqwire.asked import NOTHING, Asked, asked
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.scripts import Call, Scripts

MAX_ATTEMPTS = 3
"""How often a stock job may lose its worker or executor before it is set aside."""

POISON = "lost"
"""Fingerprint of jobs that were set aside because they lost too many workers."""

QUIET_S = (2.0, 5.0)
"""Without any reap for a third of a lease, but between these, Redis was out of reach: leases are extended
before the next one. Workers reap once a second."""

KEPT_FINISHED = 10_000
"""Finished jobs of ensembles that stock RQ tools can still look at: some 5 kB each."""

GRACE_S = 2
"""How long a function with callbacks may take to notice that its time is over."""

Answer = Literal["recorded", "retried", "repeated", "stale", "refused"]
"""``refused``: Redis would not have it, and said why in the log; trying again is no use."""
Return = Literal["returned", "aside", "stale", "refused"]


class Claim(NamedTuple):
    """One attempt of one job that this worker holds the lease of."""

    job_id: str
    owner: str
    """Names this attempt, unlike any other."""
    attempt: int
    timeout_s: int
    """0: no limit."""
    ensemble: str
    job_index: int
    payload: str
    """Digest; "" for the current ``worker.zip``."""
    created_at: float
    """When the ensemble was created, Unix time in seconds; 0 for a stock job."""
    data: bytes
    """As the client's serializer wrote it."""
    order: int = 0
    """Place among all claims of this worker."""
    decided: Outcome | None = None
    """The job was stopped, and this is its outcome; what is still to run is its callback for that."""
    asked: Asked = NOTHING
    care: int = 0
    """1: it was lost before, so it is started at once, and nothing waits behind it; 2: and this is its last
    attempt, so a worker has only one such job."""
    claimed_at: float = 0.0
    """Monotonic seconds at which the claim had been made."""
    seed: int = 0
    """That of the job's ensemble; of a stock job its own."""
    malformed: str = ""
    """Why the job cannot be run as it stands in Redis: it fails with this error, without being started."""

    @property
    def limit_s(self) -> float:
        """The executor is stopped when the attempt takes longer.

        A function with callbacks is ended by the executor itself after ``timeout_s``, so that they can run.
        """
        if self.decided is not None and self.asked.on_stopped is not None:
            return self.asked.on_stopped.timeout_s + GRACE_S
        callbacks_s = self.asked.callbacks_s
        if not self.timeout_s:
            return math.inf
        return self.timeout_s + (callbacks_s + GRACE_S if callbacks_s else 0)

    @property
    def pickled(self) -> bool:
        return encoding.is_pickled(self.data)


class Outcome(NamedTuple):
    """How an attempt ended."""

    claim: Claim
    state: Literal["finished", "failed", "stopped"]
    """As RQ names it; an ensemble counts ``stopped`` as failed."""
    started_at: float
    duration_s: float
    value: bytes = b""
    """JSON of what the function returned."""
    error: str = ""
    fingerprint: str = ""
    traceback: str = ""
    output: bytes = b""
    provenance: str = ""
    """What it ran on, as ``Provenance.to_json`` writes it; "" when it never started."""


class Loss(NamedTuple):
    """An attempt that goes back: ``reason`` is "" when it was never started."""

    claim: Claim
    reason: str = ""
    fingerprint: str = POISON
    output: bytes = b""
    started_at: float = 0.0
    provenance: str = ""


class Turn(NamedTuple):
    """What Redis answered."""

    claims: list[Claim]
    left: int
    """Jobs that are still in the queue; known only if jobs were to be claimed."""
    for_others: int
    """Jobs at its head that this worker should not have now."""
    finished: list[Answer]
    """One for each outcome."""
    given_back: list[Return]
    """One for each loss."""


class Leases:
    """The lease scheme for one worker on one queue. Calls may be repeated; they raise redis-py errors."""

    def __init__(self, client: Redis, *, queue: str, worker: str, node: str, lease_s: float) -> None:
        self._call = Scripts(client)
        self._queue = queue
        self._worker = worker
        self._node = node
        self._lease_s = lease_s
        self._claims = 0
        self._jobs = 0
        self._unknown: list[str] = []
        """Owners of claims whose reply has not come."""

    def claim(self, count: int) -> list[Claim]:
        """Take up to ``count`` jobs from the head of the queue, all to be started at once."""
        return self.turn(count=count, at_once=count).claims

    def finish(self, outcomes: Sequence[Outcome]) -> list[Answer]:
        """Make jobs final; one answer per outcome."""
        return self.turn(outcomes=outcomes).finished

    def give_back(self, losses: Sequence[Loss]) -> list[Return]:
        """Return jobs to the head of the queue; one answer per loss."""
        return self.turn(losses=losses).given_back

    def turn(
        self,
        *,
        count: int = 0,
        at_once: int = 0,
        has_last: bool = False,
        excluded: Collection[str] = (),
        outcomes: Sequence[Outcome] = (),
        losses: Sequence[Loss] = (),
    ) -> Turn:
        """Claim, finish, give back, in this order, in one round trip.

        ``at_once``: how many of the claimed jobs are started immediately; ``has_last``: one that is held
        already has its last attempt; ``excluded``: digests of payloads whose jobs are left to others, "" for
        the current ``worker.zip``. All of it may be repeated after a lost reply: what was claimed then, and
        is not known here, is returned first.
        """
        calls: list[Call] = [("unclaim", (self._queue, *self._unknown))] if self._unknown else []
        first = len(calls)
        owner = ""
        if count:
            self._claims += 1
            owner = f"{self._worker}.{self._claims}"
            limits = (count, self._lease_s, at_once, int(has_last), MAX_ATTEMPTS)
            calls.append(("claim", (self._queue, owner, self._worker, *limits, *excluded)))
        if outcomes:
            args = [self._queue, self._node, self._worker, KEPT_FINISHED]
            calls.append(("finish", [*args, *_finish_arguments(outcomes)]))
        if losses:
            args = [self._queue, self._node, MAX_ATTEMPTS]
            calls.append(("give_back", [*args, *chain.from_iterable(map(_loss_arguments, losses))]))
        if count:
            self._unknown.append(owner)
        replies = iter(self._call.together(calls)[first:] if calls else ())
        self._unknown.clear()
        left, for_others, rows = next(replies) if count else (0, 0, ())
        now = time.monotonic()
        turn = Turn(
            [_claim(owner, row, order, now) for order, row in enumerate(rows, self._jobs)],
            left,
            for_others,
            [answer.decode() for answer in next(replies)] if outcomes else [],
            [answer.decode() for answer in next(replies)] if losses else [],
        )
        self._jobs += len(rows)
        return turn

    def beat(self, claims: Iterable[Claim]) -> set[str]:
        """Extend the leases of ``claims``; returns the ids of jobs that are not ours any more."""
        pairs = [text for claim in claims for text in (claim.job_id, claim.owner)]
        if not pairs:
            return set()
        return {job_id.decode() for job_id in self._call("beat", self._queue, self._lease_s, *pairs)}

    def reap(self) -> tuple[list[str], list[str]]:
        """Return jobs whose lease has run out; the ids that came back and those that were set aside."""
        shortest, longest = QUIET_S
        quiet_s = min(max(self._lease_s / 3, shortest), longest)
        back, aside = self._call(
            "reap", self._queue, self._lease_s, quiet_s, MAX_ATTEMPTS, POISON, _lost_exception()
        )
        return [job_id.decode() for job_id in back], [job_id.decode() for job_id in aside]

    def open(self) -> list[tuple[str, str]]:
        """The ensembles that have jobs waiting, the oldest first, each with its payload's digest."""
        return [(ens.decode(), payload.decode()) for ens, payload in self._call("open", self._queue)]

    def abandon(self, worker: str) -> list[str]:
        """Return the jobs of a worker that is known to be dead at once; their ids."""
        ids = self._call("abandon", self._queue, f"{worker}.", MAX_ATTEMPTS, POISON, _lost_exception())
        return [job_id.decode() for job_id in ids]


def _lost_exception() -> bytes:
    return encoding.exception("The job lost its worker each time it ran.")


def _claim(owner: str, row: Sequence[Any], order: int, now: float) -> Claim:
    job_id, attempt, timeout, ensemble, index, payload, created, data, wishes, care, seed = row
    return Claim(
        job_id=job_id.decode(),
        owner=owner,
        attempt=attempt,
        timeout_s=max(int(timeout or 0), 0),
        ensemble=ensemble.decode(),
        job_index=int(index or -1),
        payload=payload.decode(),
        created_at=float(created),
        data=encoding.plain_data(data),
        order=order,
        asked=asked(wishes),
        care=care,
        claimed_at=now,
        seed=seeds.recorded(seed, (ensemble or job_id).decode()),
    )


def _finish_arguments(outcomes: Sequence[Outcome]) -> Iterator[str | bytes | int | float]:
    """Each text about what jobs ran on goes once, however many jobs it is about."""
    numbers: dict[str, int] = {"": 0}
    for outcome in outcomes:
        numbers.setdefault(outcome.provenance, len(numbers))
    texts = list(numbers)[1:]
    jobs = (_finish_job(outcome, numbers[outcome.provenance]) for outcome in outcomes)
    return chain((len(texts), *texts), chain.from_iterable(jobs))


def _finish_job(outcome: Outcome, provenance: int) -> Iterable[str | bytes | int | float]:
    claim = outcome.claim
    head = (
        outcome.state,
        claim.job_id,
        claim.owner,
        int(outcome.started_at * 1000),
        round(outcome.duration_s * 1000, 3),
        provenance,
    )
    if outcome.state == "finished":
        return (*head, outcome.value, encoding.return_value(outcome.value, pickled=claim.pickled))
    exception = encoding.exception(outcome.traceback or outcome.error)
    error = outcome.error.encode("utf-8", "replace")  # undecodable file names are in messages, too
    return (*head, error, outcome.fingerprint, exception, encoding.output(outcome.output))


def _loss_arguments(loss: Loss) -> Iterable[str | bytes | int | float]:
    claim = loss.claim
    exception, output = encoding.exception(loss.reason), encoding.output(loss.output)
    started_ms = int(loss.started_at * 1000)
    head = (claim.job_id, claim.owner, loss.reason, loss.fingerprint)
    return (*head, exception, output, started_ms, loss.provenance)
