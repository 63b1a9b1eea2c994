"""One slot of the worker: at most one job runs in it at a time, in the warm executor that it holds."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable

from cloudburst.rqwire.leases import Claim
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.runtime import Runtime
from cloudburst.worker.verdict import Verdict
from cloudburst.worker.written import Written

log = logging.getLogger(__name__)

STACK_DUMP_S = 0.3
"""How long an executor has to write where it hangs before it is killed."""


class Slot:
    """Holds claims from the moment they are handed to its executor until their attempts have ended.

    The first of them runs. The others lie in the executor's queue, from which they can be called back.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.executor: ExecutorProcess | None = None
        self.claims: deque[Claim] = deque()
        self.started_at = 0.0
        """Unix time at which the first claim had its turn, as far as is known here."""
        self.verdict: Verdict | None = None
        self.points: Written | None = None
        """What the running job has written, if it has."""
        self.summary = b""
        """CloudBurst's own point about it."""
        self.published = b""
        self.retiring = False
        """The executor takes no further jobs and is replaced once it has none."""
        self._since = 0.0
        self._deadline = math.inf
        self._kill_at = math.inf

    @property
    def running(self) -> Claim | None:
        """The claim whose turn it is."""
        return self.claims[0] if self.claims else None

    def has(self, runtime: Runtime) -> bool:
        """Whether an executor of that payload is here and takes jobs."""
        if self.executor is None or self.retiring:
            return False
        here = self.executor.runtime
        return here is runtime or here == runtime

    def room(self, runtime: Runtime, ahead: int) -> bool:
        """Whether one more may wait behind the running claim, if ``ahead`` may."""
        executor = self.executor
        if executor is None or not self.has(runtime) or self.verdict is not None or self.claims[0].care:
            return False
        most = runtime.settings.max_jobs_per_executor
        # An executor that has not ended a job yet may be importing for seconds.
        return executor.ended > 0 and len(self.claims) <= ahead and not (most and executor.jobs >= most)

    def hand_over(self, claim: Claim) -> bool:
        """Give a claim to the executor; False when its queue is full. Raises OSError; then it is not here."""
        if self.executor is None:
            raise RuntimeError("a slot without an executor cannot take a claim")
        if not self.executor.send(claim):
            return False
        self.claims.append(claim)
        if len(self.claims) == 1:
            self._turn()
        return True

    def _turn(self) -> None:
        """The first claim is the running one from now on."""
        self._forget_points()
        self.published = b""
        self.started_at = time.time()
        self._since = time.monotonic()
        self._deadline = self._since + self.claims[0].limit_s

    def _forget_points(self) -> None:
        if self.points is not None:
            self.points.close()
        self.points, self.summary = None, b""

    def write(self, lines: bytes) -> None:
        """Keep points of the running job. Raises TooMuch, or OSError."""
        if self.executor is not None:
            self.points = self.points or self.executor.written()
            self.points.add(lines)

    def take_points(self) -> tuple[Written | None, bytes]:
        """What the running job has written, and its summary; they are the caller's from now on."""
        points, summary = self.points, self.summary
        self.points, self.summary = None, b""
        return points, summary

    def release(self) -> Claim:
        """The running attempt has ended: it is the next one's turn."""
        claim = self.claims.popleft()
        self._reprieve()
        if self.claims:
            self._turn()
        return claim

    def clear(self) -> list[Claim]:
        """Take back all claims: the executor is dead. The first of them may have been running."""
        claims = list(self.claims)
        self.claims.clear()
        self._reprieve()
        self._forget_points()
        return claims

    def _reprieve(self) -> None:
        self.verdict = None
        self._deadline = self._kill_at = math.inf

    def call_back(self) -> list[Claim]:
        """Take back what the executor has not begun, in its order."""
        if self.executor is None or not self.claims:
            return []
        back = self.executor.call_back(self.claims)
        orders = {claim.order for claim in back}
        self.claims = deque(claim for claim in self.claims if claim.order not in orders)
        return back

    def part(self) -> ExecutorProcess | None:
        """Take the executor out of the slot if it has no job and may take more; else None."""
        if self.claims or self.retiring or self.verdict is not None:
            return None
        executor, self.executor = self.executor, None
        return executor

    def discard(self, close: Callable[[ExecutorProcess], None]) -> None:
        """End the executor, if there is one, and forget it."""
        if self.executor is not None:
            close(self.executor)
            self.executor = None
            self.retiring = False

    def condemn(self, verdict: Verdict) -> None:
        """Stop the running job: its executor writes where it is, and is killed a moment later."""
        if self.executor is not None and self.verdict is None:
            self.verdict = verdict
            self.executor.dump_stack()
            self._kill_at = time.monotonic() + STACK_DUMP_S

    def age_s(self, now: float) -> float:
        """For how long the running job has had its turn."""
        return now - self._since if self.claims else 0.0

    def overdue(self, now: float) -> bool:
        """Whether the running job has used up its time."""
        return bool(self.claims) and self.verdict is None and now >= self._deadline

    def condemned(self, now: float) -> bool:
        """Whether the moment after ``condemn`` is over."""
        return now >= self._kill_at

    def next_event(self) -> float:
        """When the slot wants to be looked at again (monotonic seconds)."""
        return min(self._deadline if self.verdict is None else math.inf, self._kill_at)

    def renewal_due(self, rss_mb: float, limit_mb: int) -> bool:
        """Whether the executor should be replaced before it takes another job."""
        if self.executor is None:
            return False
        most = self.executor.runtime.settings.max_jobs_per_executor
        return bool(most and self.executor.jobs >= most) or rss_mb > limit_mb * 3 // 4
