"""Executors that end by themselves: Python calls what was registered for its end, and writes its files."""

from __future__ import annotations

import time
from collections.abc import Callable

from cloudburst.worker.process import ExecutorProcess

LEAVE_S = 5.0
"""How long one gets before it is killed."""

_PAUSE_S = 0.01


class Leaving:
    """Those that are asked to end and have not yet. Nobody waits for them but who stops the worker."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._leaving: list[tuple[float, ExecutorProcess]] = []

    def close(self, executor: ExecutorProcess) -> None:
        """Have an executor end, by itself if no job runs in it."""
        if executor.leave():
            self._leaving.append((self._clock() + LEAVE_S, executor))
        else:
            executor.close()

    def tick(self) -> bool:
        """Clean up after those that have ended, and kill those that take too long; whether some are left."""
        for entry in list(self._leaving):
            deadline, executor = entry
            if not executor.alive() or self._clock() >= deadline:
                self._leaving.remove(entry)
                executor.close()
        return bool(self._leaving)

    def wait(self) -> None:
        """Until all have ended or were killed."""
        while self.tick():
            time.sleep(_PAUSE_S)
