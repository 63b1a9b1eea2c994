"""Ended attempts on their way to Redis: first their points are safe, then they are recorded."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from itertools import islice

from cloudburst.log import Repeats
from cloudburst.points.writer import Answer as PointsAnswer
from cloudburst.points.writer import PointWriter
from cloudburst.rqwire.leases import Answer, Claim, Loss, Outcome, Return
from cloudburst.worker.overlaps import Overlaps
from cloudburst.worker.written import Written

log = logging.getLogger(__name__)

BATCH = 200
"""Outcomes per script call: a few milliseconds of Redis' time."""

BEHIND_BYTES = 256 << 20
"""Bytes of points on their way to the database above which the worker begins no further job."""

REFUSED = "refused"
"""Fingerprint of jobs whose outcome Redis did not take."""


class Recorder:
    """Keeps what has ended until Redis has it, however long Redis or the database is away."""

    def __init__(self, points: PointWriter | None) -> None:
        self._points = points
        self._unwritten: dict[str, tuple[Outcome, int]] = {}
        """Outcomes by owner and job id whose points are not acknowledged yet, with the size of these."""
        self._unwritten_bytes = 0
        self._outcomes: deque[Outcome] = deque()
        self._losses: deque[Loss] = deque()
        self._overlaps = Overlaps()
        self._repeats = Repeats()
        self._warned = Repeats()
        self.warnings: deque[tuple[str, str]] = deque(maxlen=100)
        """What the users of ensembles should be told, each with its ensemble."""
        self.recorded = 0
        """Jobs that this worker has made final so far."""

    def ended(
        self,
        outcome: Outcome,
        points: Written | None = None,
        summary: bytes = b"",
        series: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """An attempt has ended with a result; its ``points`` and ``summary`` come first.

        ``series``: what it has written, with first and last times (ns).
        """
        claim = outcome.claim
        if claim.decided is not None:
            if outcome.state == "failed":
                log.warning("%s: its stopped callback failed: %s", claim.job_id, outcome.error)
            outcome = claim.decided
        if series and claim.ensemble:
            warning = self._overlaps.observe(claim.ensemble, claim.job_index, series)
            self._warn(claim.ensemble, "overlap", warning)
        if self._points is not None and (points or summary):
            token = f"{claim.owner} {claim.job_id}"
            size = len(summary) + (points.size if points else 0)
            self._unwritten[token] = outcome, size
            self._unwritten_bytes += size
            pieces = points.pieces() if points else ()
            self._points.submit(pieces, token, summary=summary, ensemble=claim.ensemble)
            return
        if points:
            points.close()
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
        for answer in self._points.poll() if self._points else ():
            if answer.state == "rejected" or answer.refused_summary:
                self._tell_refusal(answer)
            outcome, size = self._unwritten.pop(answer.token, (None, 0))
            self._unwritten_bytes -= size
            if outcome is None:  # answered before, or not about a job
                continue
            if answer.refused_summary and outcome.claim.ensemble:
                text = f"returned numbers are missing in the measurement result: {answer.refused_summary}"
                self._warn(outcome.claim.ensemble, "summary", text)
            self._warn(outcome.claim.ensemble, "series", answer.left_out)
            self._outcomes.append(
                _refused(outcome, answer.message) if answer.state == "rejected" else outcome
            )

    def _tell_refusal(self, answer: PointsAnswer) -> None:
        reason = answer.message or answer.refused_summary
        if times := self._repeats.worth_saying("points"):
            log.warning("%s: the database refuses points (%s so far): %s", answer.token, f"{times:,}", reason)

    def _warn(self, ensemble: str, kind: str, text: str) -> None:
        if text and self._warned.worth_saying((ensemble, kind)) == 1:
            self.warnings.append((ensemble, text))

    def batch(self) -> tuple[list[Outcome], list[Loss]]:
        """What to tell Redis next."""
        return list(islice(self._outcomes, BATCH)), list(islice(self._losses, BATCH))

    def told(self, finished: list[Answer], given_back: list[Return]) -> None:
        """Redis has answered to the last ``batch``: forget what was in it."""
        for answer in finished:
            outcome = self._outcomes.popleft()
            self.recorded += answer == "recorded"
            if answer == "refused":
                self._refused_by_redis(outcome.claim, again=outcome.fingerprint == REFUSED)
            elif answer == "stale":
                log.warning("%s: discarded, its lease was lost", outcome.claim.job_id)
            elif outcome.state != "finished":
                what = f"{outcome.state} ({answer})"
                if so_far := self._worth_saying(outcome.claim, outcome.fingerprint, what):
                    log.info("%s %s: %s", outcome.claim.job_id, so_far, outcome.error)
        for answer_ in given_back:
            loss = self._losses.popleft()
            if answer_ == "refused":
                self._refused_by_redis(loss.claim, again=False)
            what = f"lost in attempt {loss.claim.attempt} ({answer_})"
            if loss.reason and (so_far := self._worth_saying(loss.claim, loss.fingerprint, what)):
                log.warning("%s %s: %s", loss.claim.job_id, so_far, loss.reason)

    def _refused_by_redis(self, claim: Claim, *, again: bool) -> None:
        """Redis does not take how a job has ended: let it fail, with nothing of what it said."""
        if again:
            log.error("%s: not even that it failed can be recorded; its lease will run out", claim.job_id)
            return
        error = "how the job ended could not be recorded: Redis refuses it (the worker's log says why)"
        self._outcomes.append(
            Outcome(claim, "failed", time.time(), 0.0, error=error, fingerprint=REFUSED, traceback=error)
        )

    def _worth_saying(self, claim: Claim, fingerprint: str, what: str) -> str:
        """What has happened to a job, if it is the first of its kind in its ensemble, the 10th ... time."""
        times = self._repeats.worth_saying((claim.ensemble, fingerprint, what))
        return f"{what}, {times:,} like this so far" if times > 1 else what * times

    def claims(self) -> list[Claim]:
        """Claims whose leases must be kept until their outcome is recorded."""
        outcomes = [*(outcome for outcome, _ in self._unwritten.values()), *self._outcomes]
        return [outcome.claim for outcome in outcomes] + [loss.claim for loss in self._losses]

    @property
    def behind(self) -> bool:
        """Whether the database is so slow that further jobs should wait for it."""
        return self._unwritten_bytes > BEHIND_BYTES

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
