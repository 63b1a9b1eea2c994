"""When a stack ends: from what it was given and what it did. Runs nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cloudburst.pace import duration


@dataclass(frozen=True)
class Limits:
    """What the user said; 0: nothing."""

    ttl_s: float = 0.0
    """So long after it was made the stack ends."""
    idle_s: float = 0.0
    """After it had nothing to do for so long the stack ends."""


@dataclass(frozen=True)
class Life:
    """What is known of a stack. Times are Unix times in seconds."""

    begun_at: float
    busy: bool
    """Jobs wait or run, or nobody knows."""
    busy_at: float
    """When it last had something to do."""


@dataclass(frozen=True)
class Verdict:
    """Whether the stack is to end now, or when."""

    ends: bool
    deadline: float = 0.0
    """Unix time in seconds at which it is to end if nothing happens until then; 0: at none that is known."""
    reason: str = ""
    """Why then, in words."""


def decide(life: Life, limits: Limits, now: float) -> Verdict:
    """The first of the limits counts."""
    ends = []
    if limits.ttl_s:
        ends.append(
            (life.begun_at + limits.ttl_s, f"it was made to live for {duration(limits.ttl_s)} (--ttl)")
        )
    if limits.idle_s and not life.busy:
        since = time.strftime("%H:%M", time.gmtime(life.busy_at))
        told = f"it has had nothing to do since {since} UTC (--idle {duration(limits.idle_s)})"
        ends.append((life.busy_at + limits.idle_s, told))
    if not ends:
        return Verdict(
            False, reason="it has work to do" if limits.idle_s else "neither --ttl nor --idle was said"
        )
    deadline, reason = min(ends)
    return Verdict(now >= deadline, deadline, reason)
