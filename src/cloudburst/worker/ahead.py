"""How many jobs a worker holds beyond those that run: as many as hide its round trips to Redis, no more.

A job that is held waits for a slot of this worker. That is right as long as it waits for a moment only, or as
long as all others have enough to do, too: no job may wait behind another while a slot is free elsewhere.
"""

from __future__ import annotations

import math

MOMENT_S = 0.02
"""So much work may wait behind a running job in any case: about what claiming it elsewhere would take, where
Redis is near. Where it is not, or has much to do, what a claim takes is added twice: the half that is left
when the next one is made has to last for it."""

FAR_S = 0.5
"""A claim that took longer counts as one that took this."""

PATIENCE = 5
"""What is held already is given back only if it would wait for so many moments: one job in between that takes
longer than the others says nothing."""

LONGEST_S = 0.25
"""Of jobs up to this length, one more than runs is held while the queue is long."""

MOST = 128
"""Jobs of no length: more would not make anything faster."""

OVERHEAD_S = 100e-6
"""What a job takes beside the time in the user's function."""


class Ahead:
    """Knows how long jobs take at the moment."""

    def __init__(self) -> None:
        self._usual_s: float | None = None
        self._claim_s = 0.0

    def waited(self, claim_s: float) -> None:
        """A claim has taken ``claim_s`` seconds, from the question to the answer."""
        self._claim_s += (min(claim_s, FAR_S) - self._claim_s) / 8

    @property
    def moment_s(self) -> float:
        """How much work may wait behind a running job."""
        return MOMENT_S + 2 * self._claim_s

    def observe(self, duration_s: float) -> None:
        """A job has ended after ``duration_s``. A longer one counts at once, shorter ones by and by."""
        if self._usual_s is None or duration_s > self._usual_s:
            self._usual_s = duration_s
        else:
            self._usual_s += (duration_s - self._usual_s) / 8

    @property
    def job_s(self) -> float:
        """How long the next job is expected to take; infinite before the first has ended."""
        return float("inf") if self._usual_s is None else self._usual_s + OVERHEAD_S

    def needed(self) -> int:
        """How many keep a slot busy until the next claim but one is answered."""
        return math.ceil(2 * self._claim_s / self.job_s)

    def per_slot(self, *, plenty: bool) -> int:
        """Jobs that may be claimed for each slot beside the one that runs; ``plenty``: the queue is long."""
        return self._fitting(self.moment_s, plenty)

    def kept_per_slot(self, *, plenty: bool) -> int:
        """Jobs that may stay for each slot beside the one that runs."""
        return self._fitting(PATIENCE * self.moment_s, plenty)

    def _fitting(self, time_s: float, plenty: bool) -> int:
        count = int(time_s / self.job_s)
        if count == 0 and plenty and self.job_s <= LONGEST_S:
            return 1
        return min(count, MOST)

    def late_s(self) -> float:
        """A job that has run so long is not the usual one: nothing should wait behind it."""
        return max(MOMENT_S, 2 * min(self.job_s, LONGEST_S))
