"""Job descriptions on their way into the queue: in chunks, in order, each exactly once."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator

from cloudburst.ensemble.connection import Connection
from cloudburst.errors import CloudburstError, EnsembleError, QueueError
from cloudburst.model import EnsembleSpec, JobDescription
from cloudburst.rqwire.appending import Accepted, Answer, Appender, Chunk
from cloudburst.rqwire.connection import explained
from cloudburst.rqwire.descriptions import encode_description
from cloudburst.rqwire.ensembles import Identity

CHUNK_JOBS = 500
CHUNK_BYTES = 1024 * 1024
"""A chunk is one call: a few milliseconds of Redis' time."""

CHUNK_S = 1.0
"""Jobs that come slowly do not wait for their chunk to fill up."""

IN_FLIGHT = 2
"""Chunks that are sent and not acknowledged: while Redis works on one, it has the next at hand."""


def submit(queue: Connection, spec: EnsembleSpec, jobs: Iterable[JobDescription]) -> str:
    """Make an ensemble of ``jobs``, consumed as they are sent; returns its id.

    All or nothing, as far as that goes: when a description cannot be sent, ``jobs`` raises, or the caller is
    interrupted, what was accepted by then is cancelled, and the error says how much that was. When Redis is
    away too long, or this process is killed, nothing can be cancelled: the ensemble stays ``submitting``,
    never looks complete, and can be resumed.
    """
    chunks = encoded_chunks(jobs)
    first = next(chunks, None)
    if first is None:
        raise EnsembleError(f"{spec.name}: no job descriptions: an empty file, or an iterator used up?")
    ensemble = queue.patiently(queue.ensembles.create, spec, Identity(spec.name))
    submission = _Submission(queue, ensemble, spec.function)
    try:
        submission.take(first)
        for chunk in chunks:
            submission.take(chunk)
        submission.complete()
    except BaseException as error:
        _give_up(queue, submission, error)
        raise
    finally:
        submission.close()
    return ensemble


def resume(queue: Connection, ensemble: str, spec: EnsembleSpec, jobs: Iterable[JobDescription]) -> None:
    """Append what is missing of ``jobs`` to an ensemble whose submission broke off; nothing, if nothing is.

    Raises EnsembleError, and leaves the ensemble as it is, when it was cancelled, when its settings are not
    those of ``spec``, or when the jobs that it has are not the first of ``jobs``. Whatever breaks this off,
    it can be resumed again; several clients may do so at once.
    """
    if differences := queue.patiently(queue.ensembles.differences, ensemble, spec):
        raise EnsembleError(f"{ensemble} was submitted with other settings: {'; '.join(differences)}")
    submission = _Submission(queue, ensemble, spec.function)
    status = queue.patiently(queue.ensembles.status, ensemble)
    submission.go_on(status.state, queue.patiently(queue.ensembles.accepted, ensemble))
    try:
        for chunk in encoded_chunks(jobs):
            submission.take(chunk)
        submission.complete()
    finally:
        submission.close()


def encoded_chunks(jobs: Iterable[JobDescription]) -> Iterator[list[bytes]]:
    """Encoded descriptions, as many at a time as one call should carry (EnsembleError for a bad one)."""
    chunk: list[bytes] = []
    size, since = 0, time.monotonic()
    for index, description in enumerate(jobs):
        data = encode_description(description, index)
        size += len(data)
        if chunk and (len(chunk) == CHUNK_JOBS or size > CHUNK_BYTES or time.monotonic() - since > CHUNK_S):
            yield chunk
            chunk, size, since = [], len(data), time.monotonic()
        chunk.append(data)
    if chunk:
        yield chunk


class _Submission:
    """The way of descriptions into one ensemble, from its first job or from where another client stopped."""

    def __init__(self, queue: Connection, ensemble: str, function: str) -> None:
        self.ensemble = ensemble
        self.acknowledged = 0
        """So many jobs are in Redis for sure."""
        self._queue = queue
        self._appender = Appender(queue.redis, ensemble, function)
        self._read = Accepted()
        """What has been taken from the job descriptions."""
        self._there: Accepted | None = None
        """What the ensemble has, as long as fewer descriptions have been read: to be compared then."""
        self._complete = False
        """Another client has sealed the ensemble."""
        self._flight: deque[Chunk] = deque()

    def go_on(self, state: str, there: Accepted) -> None:
        """Go on from what the ensemble has already (EnsembleError if it takes no jobs any more)."""
        if state == "failed":
            status = self._queue.patiently(self._queue.ensembles.status, self.ensemble)
            raise EnsembleError(f"{self.ensemble}: no job of it can run: {status.error}")
        if state == "cancelled":
            raise EnsembleError(f"{self.ensemble} takes no jobs any more: it is {state}")
        if there.count and not there.digest:
            raise EnsembleError(f"{self.ensemble} was submitted by an older version: it cannot be resumed")
        self._complete = state != "submitting"
        self._there = there if there.count else None
        self.acknowledged = there.count

    def take(self, descriptions: list[bytes]) -> None:
        """Send the next descriptions, unless they are there already."""
        chunk = Chunk(self._read, descriptions)
        self._read = chunk.after
        self._send(chunk)

    def complete(self) -> None:
        """Have everything acknowledged, and declare the ensemble complete."""
        while self._flight:
            self._settle()
        total = self._read.count
        if self._there is not None:
            raise EnsembleError(
                f"{self.ensemble} has {self._there.count:,} jobs already, these are only {total:,}"
            )
        state, size = self._queue.patiently(self._queue.ensembles.seal, self.ensemble, total)
        if state in {"cancelled", "failed"}:
            self.go_on(state, Accepted())
        if size != total:
            raise EnsembleError(
                f"{self.ensemble} has {size:,} jobs by now, these are {total:,}: who else submits to it?"
            )

    def settle(self) -> None:
        """Have acknowledged what is under way, if Redis answers at once."""
        with contextlib.suppress(CloudburstError), explained(self._queue.url):
            while self._flight and self._appender.connected:
                self._note(self._appender.receive())

    def close(self) -> None:
        self._appender.close()

    def _send(self, chunk: Chunk) -> None:
        if self._there is not None:
            if chunk.after.count < self._there.count:
                return
            rest = chunk.behind(self._there)
            if rest is None:
                raise EnsembleError(
                    f"{self.ensemble}: the {self._there.count:,} jobs that it has are not the first of "
                    "these: give the job descriptions that it was submitted with"
                )
            self._there = None
            chunk = rest
        if not chunk.descriptions:
            return
        if self._complete:
            raise EnsembleError(
                f"{self.ensemble} is complete with {chunk.before.count:,} jobs, these are more"
            )
        self._flight.append(chunk)
        if self._appender.connected:
            with contextlib.suppress(QueueError), explained(self._queue.url):
                self._appender.send(chunk)  # or all that are under way are sent again, patiently
        while len(self._flight) >= IN_FLIGHT or (self._flight and self._is_answered()):
            self._settle()

    def _is_answered(self) -> bool:
        with contextlib.suppress(QueueError), explained(self._queue.url):
            return not self._appender.connected or self._appender.has_answer()
        return True

    def _settle(self) -> None:
        """Wait for the answer to the oldest chunk under way."""
        self._note(self._queue.patiently(self._receive))

    def _receive(self) -> Answer:
        if not self._appender.connected:
            self._appender.connect()
            for chunk in self._flight:
                self._appender.send(chunk)
        return self._appender.receive()

    def _note(self, answer: Answer) -> None:
        oldest = self._flight[0]
        if answer.state not in {"cancelled", "failed"} and answer.accepted == oldest.after:
            self.acknowledged = oldest.after.count
            self._complete = answer.state != "submitting"
            self._flight.popleft()
            return
        if answer.accepted.count < oldest.before.count:
            raise EnsembleError(
                f"{self.ensemble}: Redis has lost the jobs from index {answer.accepted.count} on"
            )
        # Another client submits to the same ensemble, or the answers to later chunks were lost: compare.
        self._appender.close()
        self.go_on(answer.state, answer.accepted)
        under_way, self._flight = self._flight, deque()
        for chunk in under_way:
            self._send(chunk)


def _give_up(queue: Connection, submission: _Submission, error: BaseException) -> None:
    """Cancel an ensemble that will not become complete, and let the error say so."""
    ensemble = submission.ensemble
    what_now = (
        f"it stays incomplete: `cloudburst submit {ensemble} --resume` with the same options goes on, "
        f"`cloudburst cancel {ensemble}` ends it"
    )
    if not isinstance(error, QueueError):
        submission.settle()
    accepted = submission.acknowledged
    if not isinstance(error, QueueError):
        with contextlib.suppress(QueueError):
            queue.once(queue.ensembles.cancel, ensemble)
            # Redis knows better than we do, if the answer to the last chunk was interrupted.
            accepted = queue.once(queue.ensembles.status, ensemble).total
            what_now = "those that had not ended are cancelled: submit all again"
    note = f"{accepted:,} jobs had been accepted into {ensemble}; {what_now}"
    if isinstance(error, CloudburstError):
        error.args = (f"{error.args[0]}\n{note}", *error.args[1:])
    else:
        error.add_note(note)
