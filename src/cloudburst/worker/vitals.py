"""What the worker measures of its node: for its entry in Redis, and as points for the stack's dashboard."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import asdict, replace

import psutil

from cloudburst import names
from cloudburst.config import WorkerConfig
from cloudburst.model import NodeReading
from cloudburst.points import line
from cloudburst.points.database import Login
from cloudburst.points.writer import PointWriter, open_writer

log = logging.getLogger(__name__)

SPOOL_LIMIT_BYTES = 32 << 20
"""Of points that wait for the database: some ten days of them."""

CLOSE_S = 0.5


class Vitals:
    """Takes a reading every ``observe_s``: half a millisecond of the worker's loop."""

    def __init__(self, config: WorkerConfig, database: Login) -> None:
        """Points go to the stack's own bucket, past those of jobs: each waits for its own bucket only."""
        self._config = config
        self._points: PointWriter | None = None
        if config.observe:
            self._points = open_writer(
                replace(database, bucket=config.stack_bucket),
                config.state_dir / "spool-vitals",
                called=lambda: None,
                spool_limit_bytes=SPOOL_LIMIT_BYTES,
            )
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
            self._points.submit([text.encode()], "")
            for answer in self._points.poll():
                if answer.state == "rejected":
                    log.warning("points about the node are refused: %s", answer.message)
        return reading

    def close(self) -> None:
        """Deliver what the database takes at once."""
        if self._points is not None:
            self._points.close(CLOSE_S)
