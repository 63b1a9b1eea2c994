"""Executors that have no slot at the moment: kept warm, because jobs of their payload may be next.

Some have no payload either: these stand in for the next executor of their kind that is to be started.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator

from cloudburst.worker import memory
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.runtime import Basis, Runtime

log = logging.getLogger(__name__)

IDLE_S = 300.0
"""An executor that no job has wanted for so long is ended."""

PER_SLOT = 3
"""So many are kept for each slot: with its own executor, four payloads can take turns without a start."""

STAND_INS = 2
"""So many without a payload are kept beside those."""

MEMORY_PART = 0.25
"""Part of the node's memory that they may take together; jobs that run have a right to more."""


class Spares:
    """Idle executors, the one that was used last first to be used again, and last to be ended."""

    def __init__(
        self,
        slots: int,
        clock: Callable[[], float] = time.monotonic,
        close: Callable[[ExecutorProcess], None] = ExecutorProcess.close,
    ) -> None:
        """``close`` ends an executor."""
        self._most = slots * PER_SLOT
        self._clock = clock
        self._close = close
        self._kept: list[tuple[float, ExecutorProcess]] = []
        """Since when, and which; the longest first."""

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[ExecutorProcess]:
        return (executor for _, executor in self._kept)

    def keep(self, executor: ExecutorProcess) -> None:
        """Take over an executor that has no job; another may be ended for it."""
        self._kept.append((self._clock(), executor))
        most = STAND_INS if executor.stands_in else self._most
        alike = [other for other in self if other.stands_in == executor.stands_in]
        for other in alike[: max(len(alike) - most, 0)]:
            self._end(other, "others are used more")

    def take(self, runtime: Runtime) -> ExecutorProcess | None:
        """Hand over an executor that runs that payload, or stood in and runs it from now on; a living one."""
        of_payload = [one for one in self if not one.stands_in and one.runtime == runtime]
        for executor in [*reversed(of_payload), *self._standing_in(runtime.basis)]:
            try:
                if executor.silent():
                    if executor.stands_in:
                        executor.take_on(runtime)
                    self._remove(executor)
                    return executor
            except OSError as error:
                log.debug("cannot tell an executor its payload: %s", error)
            self._end(executor, "it has died, or says what nobody has asked for")
        return None

    def has_stand_in(self, basis: Basis) -> bool:
        """Whether one is here that could run any payload of that basis."""
        return bool(self._standing_in(basis))

    def _standing_in(self, basis: Basis) -> list[ExecutorProcess]:
        return [one for one in self if one.stands_in and one.runtime.basis == basis]

    def enforce(self, in_use: Collection[Basis]) -> None:
        """End those that have died, that nobody has wanted for long, or that use too much memory.

        What stands in for executors that run jobs, of a basis ``in_use``, is wanted.
        """
        wanted = [one for one in self if one.stands_in and one.runtime.basis in in_use]
        for executor in wanted:
            self._remove(executor)
            self._kept.append((self._clock(), executor))
        for executor in [one for one in self if not one.alive()]:
            self._end(executor, "it has died")
        while self._kept and self._clock() - self._kept[0][0] > IDLE_S:
            self._end(self._kept[0][1], "no job has wanted it for minutes")
        used = [executor.rss_bytes() >> 20 for executor in self]
        while used and sum(used) > memory.total_mb() * MEMORY_PART:
            self._end(self._kept[0][1], "those that wait use too much memory")
            del used[0]

    def end(self, payloads: Collection[str]) -> None:
        """End those of payloads that are not on this node any more."""
        for executor in [one for one in self if one.runtime.digest in payloads]:
            self._end(executor, "its payload is gone")

    def close(self) -> None:
        """End all of them."""
        for executor in list(self):
            self._end(executor, "the worker stops")

    def _remove(self, executor: ExecutorProcess) -> None:
        self._kept = [kept for kept in self._kept if kept[1] is not executor]

    def _end(self, executor: ExecutorProcess, why: str) -> None:
        self._remove(executor)
        log.debug("an executor of payload %.12s is ended: %s", executor.runtime.digest, why)
        self._close(executor)
