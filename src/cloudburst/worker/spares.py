"""Executors that have no slot at the moment: kept warm, because jobs of their payload may be next."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator

from cloudburst.worker import memory
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.runtime import Runtime

log = logging.getLogger(__name__)

IDLE_S = 300.0
"""An executor that no job has wanted for so long is ended."""

PER_SLOT = 3
"""So many are kept for each slot: with its own executor, four payloads can take turns without a start."""

MEMORY_PART = 0.25
"""Part of the node's memory that they may take together; jobs that run have a right to more."""


class Spares:
    """Idle executors, the one that was used last first to be used again, and last to be ended."""

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = slots * PER_SLOT
        self._clock = clock
        self._kept: list[tuple[float, ExecutorProcess]] = []
        """Since when, and which; the longest first."""

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[ExecutorProcess]:
        return (executor for _, executor in self._kept)

    def keep(self, executor: ExecutorProcess) -> None:
        """Take over an executor that has no job; another may be ended for it."""
        self._kept.append((self._clock(), executor))
        while len(self._kept) > self._most:
            self._end("others are used more")

    def take(self, runtime: Runtime) -> ExecutorProcess | None:
        """Hand over an executor of that payload, if there is one that is alive."""
        for place in range(len(self._kept) - 1, -1, -1):
            executor = self._kept[place][1]
            if executor.runtime == runtime:
                del self._kept[place]
                if executor.alive():
                    return executor
                executor.close()
        return None

    def enforce(self) -> None:
        """End those that have died, that nobody has wanted for long, or that use too much memory."""
        for kept in [kept for kept in self._kept if not kept[1].alive()]:
            self._kept.remove(kept)
            kept[1].close()
        while self._kept and self._clock() - self._kept[0][0] > IDLE_S:
            self._end("no job has wanted it for minutes")
        used = [executor.rss_bytes() >> 20 for executor in self]
        while used and sum(used) > memory.total_mb() * MEMORY_PART:
            self._end("those that wait use too much memory")
            del used[0]

    def end(self, payloads: Collection[str]) -> None:
        """End those of payloads that are not on this node any more."""
        gone = [kept for kept in self._kept if kept[1].runtime.digest in payloads]
        self._kept = [kept for kept in self._kept if kept not in gone]
        for _, executor in gone:
            executor.close()

    def close(self) -> None:
        """Kill all of them."""
        while self._kept:
            self._end("the worker stops")

    def _end(self, why: str) -> None:
        _, executor = self._kept.pop(0)
        log.debug("an executor of payload %.12s is ended: %s", executor.runtime.digest, why)
        executor.close()
