"""The worker's side of the queue: claim, beat, finish, give back, reap."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeVar

import redis

from cloudburst import names
from cloudburst.rqwire import encoding, seeds
from cloudburst.rqwire.asked import NOTHING, Asked, asked
from cloudburst.rqwire.connection import Redis, refuses_arguments
from cloudburst.rqwire.scripts import Asking, Call, Scripts

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""How often a stock job may lose its worker or executor before it is set aside."""

POISON = "lost"
"""Fingerprint of jobs that were set aside because they lost too many workers."""

QUIET_S = (2.0, 5.0)
"""Without any reap for a third of a lease, but between these, Redis was out of reach: leases are extended
before the next one. Workers reap once a second."""

KEPT_FINISHED = 10_000
"""Finished jobs of ensembles that stock RQ tools can still look at: some 5 kB each."""

MOST_S = 1e10
"""No time and no duration is more, Unix times in seconds included."""

GRACE_S = 2
"""How long a function with callbacks may take to notice that its time is over."""

ERROR_LIMIT_BYTES = 4 * 1024
TRACEBACK_LIMIT_BYTES = 64 * 1024
"""Of an error the beginning is kept, of a traceback the beginning and the end."""

MALFORMED = "malformed"
"""Fingerprint of jobs that cannot be run as they stand in Redis."""

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


_Ended = TypeVar("_Ended", Outcome, Loss)


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
            calls.append(self._finishing(outcomes))
        if losses:
            calls.append(self._giving_back(losses))
        if count:
            self._unknown.append(owner)
        replies = self._call.answers(calls) if calls else []
        for reply in replies[: first + bool(count)]:
            if isinstance(reply, Exception):
                raise reply
        self._unknown.clear()
        left, for_others, rows = replies[first] if count else (0, 0, ())
        now = time.monotonic()
        claims = [_claim(owner, row, order, now) for order, row in enumerate(rows, self._jobs)]
        self._jobs += len(rows)
        finished = self._settle(self._finishing, outcomes, replies[first + bool(count)]) if outcomes else []
        given_back = self._settle(self._giving_back, losses, replies[-1]) if losses else []
        return Turn(claims, left, for_others, finished, given_back)

    def _finishing(self, outcomes: Sequence[Outcome]) -> Call:
        args = (self._queue, self._node, self._worker, KEPT_FINISHED)
        return "finish", [*args, *_finish_arguments(outcomes)]

    def _giving_back(self, losses: Sequence[Loss]) -> Call:
        args = (self._queue, self._node, MAX_ATTEMPTS)
        return "give_back", [*args, *chain.from_iterable(map(_loss_arguments, losses))]

    def _settle(
        self, call: Callable[[Sequence[_Ended]], Call], ended: Sequence[_Ended], reply: Any
    ) -> list[Any]:
        """The answers to a call about several jobs; if it was refused, halves of them are tried.

        So what one job says costs no other its record. Scripts check all before they write anything.
        """
        if not isinstance(reply, Exception):
            return [answer.decode() for answer in reply]
        if not isinstance(reply, redis.ResponseError) or not refuses_arguments(reply):
            raise reply
        if len(ended) == 1:
            log.error("%r: Redis refuses how it has ended: %s", ended[0].claim.job_id, reply)
            return ["refused"]
        half = len(ended) // 2
        answers = []
        for some in (ended[:half], ended[half:]):
            answers += self._settle(call, some, self._call.answers([call(some)])[0])
        return answers

    def beat(self, claims: Iterable[Claim]) -> set[str]:
        """Extend the leases of ``claims``; returns the ids of jobs that are not ours any more."""
        gone: set[str] = self._call.ask(self.beating(claims))[0]
        return gone

    def beating(self, claims: Iterable[Claim]) -> Asking[set[str]]:
        """As ``beat``, to be asked together with other things."""
        pairs = [text for claim in claims for text in (encoding.named(claim.job_id), claim.owner)]
        lost = yield "beat", (self._queue, self._lease_s, *pairs)
        return {encoding.name(job_id) for job_id in lost}

    def reap(self) -> tuple[list[str], list[str]]:
        """Return jobs whose lease has run out; the ids that came back and those that were set aside."""
        returned: tuple[list[str], list[str]] = self._call.ask(self.reaping())[0]
        return returned

    def reaping(self) -> Asking[tuple[list[str], list[str]]]:
        """As ``reap``, to be asked together with other things."""
        shortest, longest = QUIET_S
        quiet_s = min(max(self._lease_s / 3, shortest), longest)
        limits = (self._lease_s, quiet_s, MAX_ATTEMPTS)
        back, aside = yield "reap", (self._queue, *limits, POISON, _lost_exception())
        return [encoding.name(job_id) for job_id in back], [encoding.name(job_id) for job_id in aside]

    def open(self) -> list[tuple[str, str]]:
        """The ensembles that have jobs waiting, the oldest first, each with its payload's digest."""
        pending: list[tuple[str, str]] = self._call.ask(self.opening())[0]
        return pending

    def opening(self) -> Asking[list[tuple[str, str]]]:
        """As ``open``, to be asked together with other things."""
        found = yield "open", (self._queue,)
        return [(encoding.name(ens), encoding.name(payload)) for ens, payload in found]

    def abandon(self, worker: str) -> list[str]:
        """Return the jobs of a worker that is known to be dead at once; their ids."""
        ids = self._call("abandon", self._queue, f"{worker}.", MAX_ATTEMPTS, POISON, _lost_exception())
        return [encoding.name(job_id) for job_id in ids]


def _lost_exception() -> bytes:
    return encoding.exception("The job lost its worker each time it ran.")


def _claim(owner: str, row: Sequence[Any], order: int, now: float) -> Claim:
    """From what ``claim.lua`` returns, whose numbers it has checked. Raises nothing, whatever is in it."""
    job_id, attempt, timeout, ensemble, index, payload, created, data, wishes, care, seed, malformed = row
    plain = encoding.plain_data(data)
    claim = Claim(
        job_id=encoding.name(job_id),
        owner=owner,
        attempt=attempt,
        timeout_s=max(encoding.whole(timeout), 0),
        ensemble=encoding.name(ensemble),
        job_index=encoding.whole(index, -1),
        payload=encoding.name(payload),
        created_at=encoding.number(created),
        data=plain,
        order=order,
        asked=asked(wishes),
        care=care,
        claimed_at=now,
        seed=seeds.recorded(seed, ensemble or job_id),
    )
    what = encoding.text(malformed)
    if not what and len(plain) > encoding.DATA_LIMIT_BYTES:
        what = f"data: should have at most {encoding.DATA_LIMIT_BYTES:,} bytes"
    return claim._replace(data=b"", malformed=f"malformed job: {what}") if what else claim


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
        encoding.named(claim.job_id),
        claim.owner,
        _milliseconds(outcome.started_at),
        _milliseconds(outcome.duration_s, 3),
        provenance,
    )
    if outcome.state == "finished":
        # Of a job of an ensemble the record is all that is kept.
        value = b"" if claim.ensemble else encoding.return_value(outcome.value, pickled=claim.pickled)
        return (*head, outcome.value, value)
    exception = encoding.exception(
        encoding.middle_left_out(outcome.traceback or outcome.error, TRACEBACK_LIMIT_BYTES)
    )
    output = encoding.output(outcome.output[-names.OUTPUT_LIMIT_BYTES :])
    return (*head, _error(outcome.error), _error(outcome.fingerprint), exception, output)


def _loss_arguments(loss: Loss) -> Iterable[str | bytes | int | float]:
    exception = encoding.exception(encoding.middle_left_out(loss.reason, TRACEBACK_LIMIT_BYTES))
    output = encoding.output(loss.output[-names.OUTPUT_LIMIT_BYTES :])
    head = (
        encoding.named(loss.claim.job_id),
        loss.claim.owner,
        _error(loss.reason),
        _error(loss.fingerprint),
    )
    return (*head, exception, output, _milliseconds(loss.started_at), loss.provenance)


def _error(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:ERROR_LIMIT_BYTES]  # undecodable file names are in messages, too


def _milliseconds(seconds: float, digits: int | None = None) -> float:
    """As the scripts take it: finite, and not negative."""
    return round(min(max(seconds, 0.0), MOST_S) * 1000, digits) if math.isfinite(seconds) else 0
