"""When an executor is started ahead of need, to stand in for the next one of a payload with ``preload``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from cloudburst.worker.runtime import Basis, Runtime
from cloudburst.worker.spares import Spares

QUIET_S = 3.0
"""With a slot free for so long, nobody else wants the CPU."""

BUSY_S = 10.0
"""While all slots are busy, one is started so late: jobs that take less in all are not slowed down by it."""


class StandIns:
    """One is wanted for each executor in which a job has ended well, and started once: never in a loop."""

    def __init__(self, spares: Spares, clock: Callable[[], float] = time.monotonic) -> None:
        self._spares = spares
        self._clock = clock
        self._wanted: dict[Basis, tuple[Runtime, float]] = {}
        """For which payload, and since when."""
        self._busy_at = -math.inf

    def want(self, runtime: Runtime) -> None:
        """A job has ended well in a new executor of that payload: the next could be started faster."""
        if runtime.settings.preload and not self._spares.has_stand_in(runtime.basis):
            self._wanted.setdefault(runtime.basis, (runtime, self._clock()))

    def due(self, *, free: bool) -> Runtime | None:
        """What to start a stand-in for now, if anything; ``free``: a slot has nothing to do.

        To be asked now and then.
        """
        now = self._clock()
        if not free:
            self._busy_at = now
        for basis, (runtime, since) in self._wanted.items():
            quiet_s = now - max(since, self._busy_at)
            if quiet_s >= QUIET_S or now - since >= BUSY_S:
                del self._wanted[basis]
                return runtime
        return None
