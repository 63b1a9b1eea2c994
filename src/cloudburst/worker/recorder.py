"""Ended attempts on their way to Redis: first their points are safe, then they are recorded."""

from __future__ import annotations

import logging
from collections import deque
from itertools import islice

from cloudburst.points.writer import PointWriter
from cloudburst.rqwire.leases import Answer, Claim, Loss, Outcome, Return

log = logging.getLogger(__name__)

BATCH = 200
"""Outcomes per script call: a few milliseconds of Redis' time."""


class Recorder:
    """Keeps what has ended until Redis has it, however long Redis or the database is away."""

    def __init__(self, points: PointWriter | None) -> None:
        self._points = points
        self._unwritten: dict[str, Outcome] = {}
        """Outcomes by owner and job id whose points are not acknowledged yet."""
        self._outcomes: deque[Outcome] = deque()
        self._losses: deque[Loss] = deque()
        self.recorded = 0
        """Jobs that this worker has made final so far."""

    def ended(self, outcome: Outcome, points: bytes) -> None:
        """An attempt has ended with a result; its points come first."""
        if outcome.claim.decided is not None:
            if outcome.state == "failed":
                log.warning("%s: its stopped callback failed: %s", outcome.claim.job_id, outcome.error)
            outcome = outcome.claim.decided
        if points and self._points is not None:
            token = f"{outcome.claim.owner} {outcome.claim.job_id}"
            self._unwritten[token] = outcome
            self._points.submit(points, token)
        else:
            self._outcomes.append(outcome)

    def lost(self, loss: Loss) -> None:
        """An attempt was not started, or was lost with its executor."""
        if loss.claim.decided is not None:  # the job has ended; only its callback was lost
            log.warning("%s: its stopped callback did not run: %s", loss.claim.job_id, loss.reason)
            self._outcomes.append(loss.claim.decided)
            return
        self._losses.append(loss)

    def take_acknowledged(self) -> None:
        """Release outcomes whose points are in the database or on disk; refused points fail the job."""
        if self._points is None:
            return
        for answer in self._points.poll():
            outcome = self._unwritten.pop(answer.token, None)
            if outcome is None:  # answered before, or not about a job
                if answer.state == "rejected":
                    log.warning("%s: the database refused points: %s", answer.token, answer.message)
                continue
            if answer.state == "rejected":
                outcome = _refused(outcome, answer.message)
            self._outcomes.append(outcome)

    def batch(self) -> tuple[list[Outcome], list[Loss]]:
        """What to tell Redis next."""
        return list(islice(self._outcomes, BATCH)), list(islice(self._losses, BATCH))

    def told(self, finished: list[Answer], given_back: list[Return]) -> None:
        """Redis has answered to the last ``batch``: forget what was in it."""
        for answer in finished:
            outcome = self._outcomes.popleft()
            self.recorded += answer == "recorded"
            if answer == "stale":
                log.warning("%s: discarded, its lease was lost", outcome.claim.job_id)
            elif outcome.state != "finished":
                log.info("%s %s (%s): %s", outcome.claim.job_id, outcome.state, answer, outcome.error)
        for answer_ in given_back:
            loss = self._losses.popleft()
            if loss.reason:
                log.warning(
                    "%s attempt %d: %s: %s", loss.claim.job_id, loss.claim.attempt, loss.reason, answer_
                )

    def claims(self) -> list[Claim]:
        """Claims whose leases must be kept until their outcome is recorded."""
        outcomes = [*self._unwritten.values(), *self._outcomes]
        return [outcome.claim for outcome in outcomes] + [loss.claim for loss in self._losses]

    @property
    def unrecorded(self) -> bool:
        """Whether there is something to tell Redis."""
        return bool(self._outcomes or self._losses)

    @property
    def empty(self) -> bool:
        return not (self._unwritten or self._outcomes or self._losses)


def _refused(outcome: Outcome, message: str) -> Outcome:
    error = f"the database refused the job's points: {message}"
    if outcome.state != "finished":
        return outcome._replace(error=f"{outcome.error}; also, {error}")
    return outcome._replace(state="failed", value=b"", error=error, fingerprint="points", traceback=error)
