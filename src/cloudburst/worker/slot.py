"""One slot of the worker: at most one job at a time, and the warm executor that runs it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloudburst.rqwire.leases import Claim
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.runtime import Runtime

log = logging.getLogger(__name__)

STACK_DUMP_S = 0.3
"""How long an executor has to write where it hangs before it is killed."""

Start = Callable[[Runtime, Path], ExecutorProcess]


@dataclass(frozen=True)
class Verdict:
    """Why the worker stops a running job."""

    kind: str
    """One word; failures of the same kind share a fingerprint."""
    reason: str


class Slot:
    """Holds a claim from the moment it is taken until its attempt has ended, one way or another."""

    def __init__(self, number: int, directory: Path, start: Start) -> None:
        self.number = number
        self.executor: ExecutorProcess | None = None
        self.claim: Claim | None = None
        self.running = False
        """Whether the executor has the job; before that its payload is being prepared."""
        self.started_at = 0.0
        self.points: list[bytes] = []
        self.verdict: Verdict | None = None
        """Why the worker stops this attempt; its executor is about to be killed."""
        self.published = b""
        """The output of the running job that clients can read already."""
        self._directory = directory
        self._start = start
        self._deadline = math.inf
        self._kill_at = math.inf

    def assign(self, claim: Claim) -> None:
        """Take a claim; it starts with ``run``, once its payload is ready."""
        self.claim = claim
        self.running = False
        self.points = []
        self.verdict = None
        self.published = b""
        self._kill_at = math.inf

    def run(self, runtime: Runtime) -> bool:
        """Hand the claim to an executor of that payload; returns whether a new one had to be started."""
        if self.claim is None:
            raise RuntimeError("a slot without a claim has nothing to run")
        renew = self.executor is None or self.executor.runtime != runtime
        if renew:
            self.discard()
            self.executor = self._start(runtime, self._directory)
        assert self.executor is not None  # noqa: S101 (for the type checker)
        self.running = True
        self.started_at = time.time()
        limit = self.claim.timeout_s or math.inf
        self._deadline = time.monotonic() + limit
        try:
            self.executor.send(self.claim)
        except OSError as error:  # it has died: the loop will find out by reading from it
            log.debug("slot %d: %s", self.number, error)
        return renew

    def release(self) -> Claim:
        """The attempt has ended: the slot is free again."""
        if self.claim is None:
            raise RuntimeError("a slot without a claim has nothing to release")
        claim, self.claim = self.claim, None
        self.running = False
        self._deadline = self._kill_at = math.inf
        return claim

    def discard(self) -> int:
        """Kill the executor, if there is one; its exit status."""
        if self.executor is None:
            return 0
        status = self.executor.close()
        self.executor = None
        return status

    def condemn(self, verdict: Verdict) -> None:
        """Stop the running job: its executor writes where it is, and is killed a moment later."""
        if self.executor is not None and self.verdict is None:
            self.verdict = verdict
            self.executor.dump_stack()
            self._kill_at = time.monotonic() + STACK_DUMP_S

    def overdue(self, now: float) -> bool:
        """Whether the running job has used up its time."""
        return self.running and self.verdict is None and now >= self._deadline

    def condemned(self, now: float) -> bool:
        """Whether the moment after ``condemn`` is over."""
        return now >= self._kill_at

    def next_event(self) -> float:
        """When the slot wants to be looked at again (monotonic seconds)."""
        return min(self._deadline if self.verdict is None else math.inf, self._kill_at)

    def renewal_due(self, rss_mb: int, limit_mb: int) -> bool:
        """Whether the executor should be replaced before the next job."""
        if self.executor is None:
            return False
        most = self.executor.runtime.settings.max_jobs_per_executor
        return bool(most and self.executor.jobs >= most) or rss_mb > limit_mb * 3 // 4
