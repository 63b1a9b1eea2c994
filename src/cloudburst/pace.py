"""How fast an ensemble goes, in numbers and in words; and spans of time, as users write and read them."""

from __future__ import annotations

import re
from collections import deque

from cloudburst.model import EnsembleStatus

WINDOW_S = 60.0
"""The rate is that of the last minute."""

ENOUGH = 5
"""From so many ended jobs on, the window says more about the rate than the whole time."""


QUIET_S = 15.0
"""A client that submits and has sent nothing for so long may be gone."""


_NUMBER = r"(\d+(?:\.\d+)?)"
_SPAN = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m(?:in)?)?(?:{_NUMBER}s)?", re.ASCII)


class Pace:
    """How fast jobs end: over the last minute of what was observed, or since the start if that is little."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._since_start = 0.0

    def observe(self, status: EnsembleStatus, now: float) -> None:
        """``now`` is Unix time in seconds."""
        self._since_start = status.ended / max(now - status.created_at, 1e-3)
        jobs_are_retried = self._seen and status.ended < self._seen[-1][1]
        if jobs_are_retried or status.ended == 0:  # the environment is built: says nothing about jobs
            self._seen.clear()
        self._seen.append((now, status.ended))
        while self._seen[0][0] < now - WINDOW_S:
            self._seen.popleft()

    @property
    def per_s(self) -> float:
        """Jobs per second; 0 before the first has ended."""
        (start, before), (end, after) = self._seen[0], self._seen[-1]
        if end > start and (before == 0 or after - before >= ENOUGH):
            return (after - before) / (end - start)
        return self._since_start

    def left_s(self, status: EnsembleStatus) -> float | None:
        """Seconds until all jobs accepted so far will have ended; None when nobody can know."""
        if status.ended == 0 or self.per_s == 0:
            return None
        return (status.total - status.ended) / self.per_s


def broken_off(status: EnsembleStatus, now: float) -> str:
    """What to do about an ensemble that has not all its jobs, when none has come for a while; else ""."""
    since = now - status.appended_at
    if status.state != "submitting" or since < QUIET_S:
        return ""
    return (
        f"{status.id} is not complete: it has {status.total:,} jobs, the last came {duration(since)} ago. "
        f"If its client is gone, `cloudburst submit {status.id} --resume` with the same options goes on, and "
        f"`cloudburst cancel {status.id}` ends it"
    )


def sentence(status: EnsembleStatus, pace: Pace, slots: int | None = None) -> str:
    """``45 of 1,000 done, 2 failed, 4 running, 13.4/s, about 1 min left``.

    No more are said to run than there are ``slots``: workers hold jobs that they have not begun.
    """
    running = status.running if slots is None else min(status.running, slots)
    parts = [f"{status.ended:,} of {status.total:,} done"]
    if status.state == "submitting":
        parts[0] += " (more are being submitted)"
    parts += [f"{status.failed:,} failed"] if status.failed else []
    parts += [f"{status.cancelled:,} cancelled"] if status.cancelled else []
    parts += [f"{running:,} running"] if running else []
    if status.ended and not status.complete:
        parts.append(f"{pace.per_s:.3g}/s")
    left_s = pace.left_s(status)
    if left_s is not None and not status.complete:
        parts.append(f"about {duration(left_s)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = max(round(seconds), 0)
    for size, unit, part, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size:,} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def seconds(text: str) -> float:
    """The span of time that is meant by ``90s``, ``30min``, ``1h30m``, ``8h``, ``2d``, or plain seconds.

    Raises ValueError for anything else.
    """
    if re.fullmatch(_NUMBER, text, re.ASCII):
        return float(text)
    match = _SPAN.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is no time: use 90s, 15min or 2h")
    return sum(float(part) * unit for part, unit in zip(match.groups("0"), (86400, 3600, 60, 1), strict=True))
