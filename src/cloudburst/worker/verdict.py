"""What becomes of a claim whose attempt does not end by itself, or takes its executor with it."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from dataclasses import dataclass, replace
from typing import Literal

from cloudburst.rqwire.leases import Claim, Loss, Outcome
from cloudburst.worker.replies import Disturbed


@dataclass(frozen=True)
class Verdict:
    """Why an attempt ends, and what becomes of its job."""

    kind: str
    """One word; failures of the same kind share it as their fingerprint."""
    reason: str
    sentence: Literal["fails", "stops", "is lost", "goes back", "is dropped"] = "fails"
    """``stops``: on a client's order, which RQ tells from failures. ``is lost``: it runs again, and that is
    counted. ``goes back``: as if it had not begun. ``is dropped``: it is not ours any more."""

    @classmethod
    def disturbed(cls, what: Disturbed) -> Verdict:
        """An executor has said what it never says."""
        return cls(
            "protocol", f"its executor was disturbed: it said {what}; did the job write into its sockets?"
        )

    def in_doubt(self) -> Verdict:
        """The same of a job that is not the first in its executor: one before it may have disturbed that.

        It runs again, alone; if that goes wrong too, it is to blame.
        """
        return replace(self, sentence="is lost") if self.kind == "protocol" else self

    @classmethod
    def ended(cls, status: int, *, for_memory: bool) -> Verdict:
        """An executor has ended by itself; ``for_memory``: the kernel has just ended processes for it."""
        if status == os.EX_PROTOCOL:
            return HUNG_UP
        reason = ending(status, for_memory=for_memory)
        return cls(hashlib.sha256(reason.encode()).hexdigest()[:8], reason, "is lost")


HUNG_UP = Verdict("protocol", "its executor was disturbed: did the job close its sockets?")
KILL_HORSE = Verdict("kill-horse", "a client has ordered it (kill-horse)")
STOP_JOB = Verdict("stop-job", "a client has ordered it (stop-job)", "stops")
GO_BACK = Verdict("back", "the grace period is over", "goes back")
DROP = Verdict("gone", "its lease is gone (cancelled, or run elsewhere)", "is dropped")


@dataclass(frozen=True)
class Attempt:
    """What is known of one that has been ended."""

    claim: Claim
    started: float
    """Unix time in seconds."""
    output: bytes = b""
    ran_on: str = ""

    def outcome(self, verdict: Verdict) -> Outcome:
        """Of an attempt that fails or stops."""
        error = f"stopped: {verdict.reason}"
        return Outcome(
            self.claim,
            "stopped" if verdict.sentence == "stops" else "failed",
            self.started,
            max(time.time() - self.started, 0.0),
            error=error,
            fingerprint=verdict.kind,
            traceback=f"{error}\n\n{self.output.decode('utf-8', 'replace')[-4000:]}",
            output=self.output,
            provenance=self.ran_on,
        )

    def loss(self, verdict: Verdict) -> Loss:
        """Of an attempt that is lost."""
        return Loss(self.claim, verdict.reason, verdict.kind, self.output, self.started, self.ran_on)


def ending(status: int, *, for_memory: bool) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"its executor exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hints = {
        "SIGKILL": " (by the system, which had no memory left)"
        if for_memory
        else " (by the system for want of memory, or by somebody)",
        "SIGSEGV": " (a crash in native code)",
    }
    return f"its executor was killed by {name}{hints.get(name, '')}"
