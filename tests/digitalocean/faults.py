"""What can go wrong with a call, on purpose."""

from __future__ import annotations

import fnmatch
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["status", "lost reply", "lost request", "slow", "kill before", "kill after"]


@dataclass
class Call:
    """One request as it came in; ``number`` counts from 1."""

    number: int
    method: str
    path: str
    """Without the query, as ``/v2/droplets``."""
    query: str
    body: object
    status: int = 0
    """Of the answer; 0: it was never answered."""
    executed: bool = False

    def __str__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.number}: {self.method} {self.path}{query} → {self.status or 'no answer'}"


Matcher = str | int | Callable[[Call], bool]
"""``"POST /v2/droplets"`` (with ``*`` as in file names), the number of the call, or a function."""


@dataclass
class Fault:
    """Befalls calls that match: the first ``times`` of them after ``after`` have passed."""

    matcher: Matcher
    kind: Kind
    times: int = 1
    after: int = 0
    status: int = 500
    message: str = ""
    retry_after: float | None = None
    seconds: float = 0.0
    victim: Callable[[], int] | None = None
    """Whose process id is to be killed."""
    seen: int = 0

    def befalls(self, call: Call) -> bool:
        if not self._matches(call):
            return False
        self.seen += 1
        return self.after < self.seen <= self.after + self.times

    @property
    def happened(self) -> int:
        """How many calls it has befallen."""
        return max(0, min(self.seen - self.after, self.times))

    def kill(self) -> None:
        assert self.victim is not None
        try:
            os.kill(self.victim(), signal.SIGKILL)
        except ProcessLookupError:
            return

    def _matches(self, call: Call) -> bool:
        if isinstance(self.matcher, int):
            return call.number == self.matcher
        if isinstance(self.matcher, str):
            return fnmatch.fnmatchcase(f"{call.method} {call.path}", self.matcher)
        return self.matcher(call)
