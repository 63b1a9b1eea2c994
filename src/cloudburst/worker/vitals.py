"""What the worker measures of its node: for its entry in Redis, and as points for the stack's dashboard."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict

import psutil

from cloudburst import names
from cloudburst.config import WorkerConfig
from cloudburst.model import NodeReading
from cloudburst.points import line
from cloudburst.points.writer import PointWriter


class Vitals:
    """Takes a reading every ``observe_s``: half a millisecond of the worker's loop."""

    def __init__(self, config: WorkerConfig, points: PointWriter | None) -> None:
        self._config = config
        self._points = points if config.observe else None
        self._last = time.monotonic()
        self._recorded = 0
        psutil.cpu_percent()  # the next one says how busy the CPUs have been since this one

    def due(self, now: float) -> bool:
        """Whether it is time for a reading; ``now`` is monotonic."""
        return now >= self._last + self._config.observe_s

    def take(self, now: float, *, slots: int, busy: int, recorded: int, kept_bytes: int) -> NodeReading:
        """Measure, and hand a point to the writer; ``recorded``: jobs that the worker made final so far."""
        elapsed_s, self._last = now - self._last, now
        memory = psutil.virtual_memory()
        disk = shutil.disk_usage(self._config.state_dir)
        reading = NodeReading(
            cpu_percent=psutil.cpu_percent(),
            memory_used_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
            disk_free_bytes=disk.free,
            disk_total_bytes=disk.total,
            environments_bytes=kept_bytes,
        )
        ended, self._recorded = recorded - self._recorded, recorded
        if self._points is not None:
            fields = asdict(reading) | {
                "slots": slots,
                "slots_busy": busy,
                "jobs_ended": ended,
                "jobs_per_s": ended / elapsed_s,
            }
            text = line.encode(names.MEASUREMENT_NODE, fields, {"node": self._config.node})
            self._points.submit([text.encode()], "vitals of the node")
        return reading
