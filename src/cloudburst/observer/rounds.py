"""One round of observation: everything that the observer measures, as lines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from cloudburst import names
from cloudburst.config import ObserverConfig
from cloudburst.observer.ensembles import EnsemblePoints
from cloudburst.points import line
from cloudburst.rqwire import readings
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.workers import workers


class Rounds:
    """Reads Redis; a round costs Redis a millisecond or two at any number of jobs."""

    def __init__(self, client: Redis, config: ObserverConfig) -> None:
        self._redis = client
        self._config = config
        self._ensembles = EnsemblePoints(client, config.queue)

    def lines(self, now: float) -> Iterator[str]:
        """Line protocol without newlines; ``now`` is Unix time in seconds. Raises what redis-py raises."""
        time_ns = int(now * 1e9)
        yield from self._ensembles.lines(now)
        queue, server = readings.read(self._redis, self._config.queue)
        alive = workers(self._redis)
        fields = asdict(queue) | {
            "workers": len(alive),
            "slots": sum(worker.slots for worker in alive),
            "slots_busy": sum(worker.busy for worker in alive),
            "ensembles": self._ensembles.in_progress,
        }
        yield line.encode(names.MEASUREMENT_QUEUE, fields, {"queue": self._config.queue}, time_ns)
        yield line.encode(
            names.MEASUREMENT_REDIS, asdict(server) | {"aof_ok": int(server.aof_ok)}, None, time_ns
        )

    def quick_lines(self, now: float) -> Iterator[str]:
        """What does not wait for the next round: ensembles that are young, or have just ended."""
        yield from self._ensembles.quick_lines(now)


def disk(directory: Path | None, now: float) -> Iterator[str]:
    """The line about the disk that holds ``directory``; none without one. ``now`` as above."""
    if directory is not None:
        usage = shutil.disk_usage(directory)
        fields = {"free_bytes": usage.free, "total_bytes": usage.total}
        yield line.encode(names.MEASUREMENT_DISK, fields, None, int(now * 1e9))
