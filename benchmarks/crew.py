"""Many real workers in one process whose executors only sleep: ``crew.py URL DIRECTORY FIRST COUNT SLOTS``.

The supervisor's loop is the real one, with its claims, beats, reaps, bell and orders, on connections of its
own; each runs in a thread. What is not real: the executor, which sleeps for ``seconds`` of the job's
description in a thread that all share, and the provisioner, which has every payload ready.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import socket
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from cloudburst import names
from cloudburst.config import WorkerConfig
from cloudburst.model import PayloadSettings, Provenance
from cloudburst.rqwire.leases import Claim
from cloudburst.worker.inside import frames, values
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.runtime import Runtime
from cloudburst.worker.supervisor import Worker

PROVENANCE = Provenance("digest", "environment", "3.11", "linux", names.VERSION)
RUNTIME = Runtime("digest", Path("/nowhere"), Path(sys.executable), PayloadSettings(), PROVENANCE)


class Clock:
    """Calls at given times, in one thread."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Any]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def at(self, when: float, call: Any) -> None:
        with self._changed:
            heapq.heappush(self._heap, (when, next(self._numbers), call))
            if self._heap[0][2] is call:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    wait = self._heap[0][0] - time.monotonic() if self._heap else None
                    self._changed.wait(wait)
                _, _, call = heapq.heappop(self._heap)
            call()


class SleepingExecutor(ExecutorProcess):
    """To the worker an executor like any other."""

    def __init__(self, clock: Clock) -> None:  # no process is started
        self.runtime = RUNTIME
        self.jobs = self.ended = 0
        self.control, self._theirs = socket.socketpair()
        self.control.setblocking(False)
        self._buffer = bytearray()
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: Claim | None = None
        self._left: deque[Claim] = deque()

    def send(self, claim: Claim) -> bool:
        self.jobs += 1
        with self._lock:
            self._left.append(claim)
            if self._taken is None:
                self._take()
        return True

    def _take(self) -> None:
        claim = self._taken = self._left.popleft()
        _, (description,), _ = values.decode(claim.data, False)
        seconds, started = description["seconds"], time.time()
        self._clock.at(time.monotonic() + seconds, lambda: self._end(claim, started, seconds))

    def _end(self, claim: Claim, started: float, seconds: float) -> None:
        header = {"state": "finished", "started": started, "duration": seconds, "order": claim.order}
        frame = frames.pack(frames.DONE, json.dumps(header | {"rss_mb": 1}).encode() + b"\nnull")
        with self._lock:
            if self._theirs.fileno() == -1:  # killed in its sleep
                return
            self._theirs.send(frame)
            self._taken = None
            if self._left:
                self._take()

    def call_back(self) -> set[int]:
        with self._lock:
            orders = {claim.order for claim in self._left}
            self._left.clear()
        self.jobs -= len(orders)
        return orders

    def output_tail(self, latest: bytes | None = None) -> bytes:
        return b""

    def cut_output(self) -> None:
        pass

    def job_ended(self) -> None:
        self.ended += 1

    def rss_bytes(self) -> int:
        return 0

    def dump_stack(self) -> None:
        pass

    def kill(self) -> int:
        return 0

    def close(self) -> None:
        with self._lock:
            self.control.close()
            self._theirs.close()


class SimulatedWorker(Worker):
    """The real worker, but for its executors and payloads."""

    def __init__(self, config: WorkerConfig, clock: Clock) -> None:
        super().__init__(config, {})
        for slot in self._slots:
            slot._start = lambda runtime, directory: SleepingExecutor(clock)
        self._provisioner.get = lambda payload, ensemble: RUNTIME
        self._take_over()

    def serve(self) -> None:
        while True:
            self._once()


def main() -> None:
    url, directory, first, count, slots = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    clock = Clock()
    for number in range(first, first + count):
        config = WorkerConfig(
            redis_url=url,
            filestore_url="http://127.0.0.1:1",
            filestore_token="",
            influx_url="",
            influx_token="",
            influx_org="",
            influx_bucket="",
            state_dir=directory / f"worker-{number}",
            slots=slots,
            node=f"node{number}",
        )
        worker = SimulatedWorker(config, clock)
        threading.Thread(target=worker.serve, name=f"worker {number}", daemon=True).start()
    sys.stdin.read()  # until whoever started us is gone
    os._exit(0)


if __name__ == "__main__":
    main()
