"""The worker's loop: claims jobs for free slots, watches the executors, records what has ended.

One thread does all of this; it never waits for anything but its selector and short calls to Redis. What may
take long happens beside it: payloads are prepared in threads (``provision``), points are written in one
(``points.writer``), and user code runs in executors.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import selectors
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO, TypeVar

import redis

from cloudburst.config import WorkerConfig
from cloudburst.errors import ConfigError, QueueError
from cloudburst.points.writer import open_writer
from cloudburst.rqwire import connection, output, workers
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Claim, Leases, Loss, Outcome
from cloudburst.worker import executor, memory, process
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.provision import Provisioner, Unusable
from cloudburst.worker.recorder import Recorder
from cloudburst.worker.runtime import Runtime, executor_environ
from cloudburst.worker.slot import Slot, Verdict
from cloudburst.worker.wake import Bell, Wake

log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_S = 0.5
"""How often memory and output of running jobs are looked at."""

BEAT_S = 1.0
"""How often leases are extended, lost ones reaped, and the worker reports itself."""

REDIS_PAUSE_S = 0.5
"""After a failed call, Redis is left alone for so long."""


class Worker:
    """One worker of one node. ``run`` returns when it has been told to stop and its jobs have ended."""

    def __init__(self, config: WorkerConfig, environ: Mapping[str, str]) -> None:
        self._config = config
        self._environ = environ
        self._state_lock = _lock_state(config.state_dir)
        self._name = workers.worker_name(config.node)
        self._redis = _connect(config)
        self._ensembles = Ensembles(self._redis)
        self._leases = Leases(
            self._redis, queue=config.queue, worker=self._name, node=config.node, lease_s=config.lease_s
        )
        self._registration = workers.Registration(
            self._redis, name=self._name, queue=config.queue, node=config.node, slots=config.slots
        )
        self._wake = Wake()
        self._bell = Bell(self._redis, config.queue, self._wake)
        self._points = open_writer(
            config.influx_url,
            config.influx_token,
            config.influx_org,
            config.influx_bucket,
            config.state_dir / "spool",
        )
        self._recorder = Recorder(self._leases, self._points)
        self._provisioner = Provisioner(config, environ, called=self._wake.call, note=self._note)
        slots_dir = config.state_dir / "slots"
        shutil.rmtree(slots_dir, ignore_errors=True)
        self._slots = [Slot(n, slots_dir / str(n), self._start_executor) for n in range(config.slots)]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        if self._points is not None:
            self._selector.register(self._points, selectors.EVENT_READ)
        self._stopping = False
        self._stop_by = 0.0
        self._away_until = 0.0
        self._away = False
        self._next_tick = 0.0
        self._next_beat = 0.0
        self._queue_empty = False

    # -- the loop --------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit status."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.set_wakeup_fd(self._wake.theirs.fileno(), warn_on_full_buffer=False)
        self._take_over()
        log.info("worker %s: %d slots, queue %s", self._name, len(self._slots), self._config.queue)
        while not self._done():
            self._once()
        self._close()
        return 0

    def _once(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            if isinstance(key.fileobj, ExecutorProcess):
                self._listen(key.data)
        self._wake.drain()
        self._recorder.take_acknowledged()
        now = time.monotonic()
        self._enforce(now)
        if self._stopping:
            self._hurry(now)
        self._with_redis(self._recorder.flush)
        if now >= self._next_beat:
            self._next_beat = now + BEAT_S
            self._with_redis(self._beat)
        self._claim()
        self._run_ready()

    def _patience(self) -> float:
        now = time.monotonic()
        events = [self._next_tick, self._next_beat, *(slot.next_event() for slot in self._slots)]
        if not self._recorder.empty:
            events.append(max(self._away_until, now + 0.05))
        return max(min(events) - now, 0.0)

    def _done(self) -> bool:
        if not self._stopping or any(slot.claim for slot in self._slots):
            return False
        # Redis is away: what has ended comes back when its lease runs out, and is run again.
        return self._recorder.empty or time.monotonic() > self._stop_by + self._config.lease_s

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._stopping:
            self._stop_by = 0.0  # asked twice: now
            return
        log.info("worker %s: %s, stopping", self._name, signal.Signals(number).name)
        self._stopping = True
        self._stop_by = time.monotonic() + self._config.grace_s

    # -- claims ----------------------------------------------------------------------------------------

    def _claim(self) -> None:
        free = [slot for slot in self._slots if slot.claim is None]
        if self._bell.rang:
            self._bell.rang = self._queue_empty = False
        if self._stopping or not free or self._queue_empty:
            return
        claims = self._with_redis(lambda: self._leases.claim(len(free)))
        for slot, claim in zip(free, claims or [], strict=False):
            slot.assign(claim)
        if claims is not None and len(claims) < len(free):
            self._queue_empty = True
            self._bell.arm()

    def _run_ready(self) -> None:
        for slot in self._slots:
            if slot.claim is None or slot.running:
                continue
            ready = self._provisioner.get(slot.claim.payload, slot.claim.ensemble)
            if isinstance(ready, Unusable):
                self._fail_unusable(slot, ready)
            elif ready is not None:
                self._run(slot, ready)

    def _run(self, slot: Slot, runtime: Runtime) -> None:
        if slot.executor is not None and slot.executor.runtime != runtime:
            self._discard(slot)
        if slot.run(runtime):
            self._selector.register(_executor(slot), selectors.EVENT_READ, slot)

    def _fail_unusable(self, slot: Slot, unusable: Unusable) -> None:
        claim = slot.release()
        text = f"{unusable.error}\n{unusable.detail}".strip()
        self._recorder.ended(
            Outcome(
                claim,
                "failed",
                time.time(),
                0.0,
                error=unusable.error,
                fingerprint="ensemble",
                traceback=text,
            ),
            b"",
        )
        self._fail_ensemble(claim, text)

    def _fail_ensemble(self, claim: Claim, error: str) -> None:
        """No job of the ensemble can run: say so once, instead of once per job. Long for a large one: a thread."""
        if not claim.ensemble:
            return

        def fail() -> None:
            try:
                count = self._ensembles.fail(claim.ensemble, error)
                log.warning("ensemble %s failed, %d jobs with it: %s", claim.ensemble, count, error)
            except redis.RedisError as reason:
                log.warning("ensemble %s: cannot tell that it failed: %s", claim.ensemble, reason)

        threading.Thread(target=fail, name="fail", daemon=True).start()

    def _note(self, ensemble: str, text: str) -> None:
        try:
            self._ensembles.note(ensemble, text)
        except redis.RedisError as error:
            log.debug("note for %s: %s", ensemble, error)

    # -- executors -------------------------------------------------------------------------------------

    def _start_executor(self, runtime: Runtime, directory: Path) -> ExecutorProcess:
        log.debug("starting an executor in %s", directory)
        return ExecutorProcess(
            runtime,
            directory,
            executor_environ(runtime, self._config, self._environ),
            points=self._points is not None,
            allow_pickle=self._config.allow_pickle,
        )

    def _discard(self, slot: Slot) -> int:
        if slot.executor is not None:
            self._selector.unregister(slot.executor)
        return slot.discard()

    def _listen(self, slot: Slot) -> None:
        if slot.executor is None:
            return
        frames, alive = slot.executor.frames()
        for kind, body in frames:
            if kind == executor.POINTS:
                slot.points.append(body)
            elif kind == executor.DONE and slot.claim is not None:
                self._ended(slot, body)
        if not alive:
            self._executor_ended(slot)

    def _ended(self, slot: Slot, body: bytes) -> None:
        head, _, rest = body.partition(b"\n")
        header = json.loads(head)
        failed = header["state"] == "failed"
        running = _executor(slot)
        claim = slot.release()
        outcome = Outcome(
            claim,
            header["state"],
            header["started"],
            header["duration"],
            value=b"" if failed else rest,
            error=header.get("error", ""),
            fingerprint=header.get("fingerprint", ""),
            traceback=header.get("traceback", ""),
            output=running.output_tail(rest) if failed else b"",
        )
        running.job_ended()
        self._recorder.ended(outcome, b"".join(slot.points))
        if slot.renewal_due(header["rss_mb"], self._rss_limit_mb(running.runtime)):
            self._discard(slot)
        if header.get("broken"):
            self._fail_ensemble(claim, f"{outcome.error}\n{outcome.traceback}".strip())

    def _executor_ended(self, slot: Slot) -> None:
        """The executor's process has ended; if a job was in it, so has its attempt."""
        gone = _executor(slot)
        tail = gone.output_tail() if slot.claim else b""
        started = slot.started_at
        verdict = slot.verdict
        status = self._discard(slot)
        if slot.claim is None or not slot.running:
            return
        claim = slot.release()
        if verdict:
            self._recorder.ended(_stopped(claim, verdict, started, tail), b"")
        else:
            reason = process.ending(status)
            self._recorder.lost(Loss(claim, reason, _fingerprint(reason), tail, started))

    # -- chores ----------------------------------------------------------------------------------------

    def _enforce(self, now: float) -> None:
        for slot in self._slots:
            if slot.overdue(now) and slot.claim is not None:
                slot.condemn(
                    Verdict("timeout", f"it ran longer than its timeout of {slot.claim.timeout_s} s")
                )
            if slot.condemned(now):
                self._listen(slot)  # it may have ended in the meantime
                if slot.claim is not None and slot.verdict:
                    self._executor_ended(slot)
        if now >= self._next_tick:
            self._next_tick = now + TICK_S
            for slot in self._slots:
                if slot.running and slot.executor is not None:
                    slot.executor.cut_output()
                    self._check_memory(slot, slot.executor)

    def _check_memory(self, slot: Slot, running: ExecutorProcess) -> None:
        limit_mb = self._rss_limit_mb(running.runtime)
        used_mb = running.rss_bytes() >> 20
        if used_mb > limit_mb:
            which = (
                "max_rss_mb of cloudburst.toml" if running.runtime.settings.max_rss_mb else "the slot's share"
            )
            used = f"it used {used_mb:,} MiB of memory, more than {limit_mb:,} MiB ({which})"
            slot.condemn(Verdict("memory", used))

    def _rss_limit_mb(self, runtime: Runtime) -> int:
        return runtime.settings.max_rss_mb or memory.share_mb(self._config.slots)

    def _beat(self) -> None:
        held = {slot.claim.job_id: slot for slot in self._slots if slot.claim is not None}
        claims = [slot.claim for slot in held.values() if slot.claim is not None]
        for job_id in self._leases.beat([*claims, *self._recorder.claims()]):
            if job_id in held:
                log.info("%s: its lease is gone (cancelled, or run elsewhere): stopping it", job_id)
                slot = held[job_id]
                if slot.running:
                    self._discard(slot)
                slot.release()
        back, aside = self._leases.reap()
        if back or aside:
            log.warning("leases ran out: %s returned to the queue, %s set aside", back, aside)
        busy = [slot.claim.job_id for slot in self._slots if slot.claim is not None]
        self._registration.heartbeat(
            busy=len(busy), current_job=busy[0] if busy else "", stopping=self._stopping
        )
        self._publish_output()

    def _publish_output(self) -> None:
        for slot in self._slots:
            if slot.running and slot.executor is not None and slot.claim is not None:
                tail = slot.executor.output_tail()
                if tail != slot.published:
                    slot.published = tail
                    output.publish(self._redis, slot.claim.job_id, tail)

    # -- Redis -----------------------------------------------------------------------------------------

    def _with_redis(self, call: Callable[[], T]) -> T | None:
        """Call, unless Redis was found away a moment ago; None when it is away."""
        if time.monotonic() < self._away_until:
            return None
        try:
            result = call()
        except redis.RedisError as error:
            if not self._away:
                log.warning("Redis does not do what it is asked (%s); trying again", error)
            self._away = True
            self._away_until = time.monotonic() + REDIS_PAUSE_S
            return None
        if self._away:
            log.info("Redis is back")
            self._away = False
            self._queue_empty = False
        return result

    def _take_over(self) -> None:
        """Return the jobs of the worker that had this state directory before, and leave our name for the next."""
        self._state_lock.seek(0)
        before = self._state_lock.read().strip()
        if before and (jobs := self._leases.abandon(before)):
            log.warning("worker %s died here: returned %s to the queue", before, jobs)
        self._state_lock.seek(0)
        self._state_lock.truncate()
        self._state_lock.write(self._name)
        self._state_lock.flush()

    # -- the end ---------------------------------------------------------------------------------------

    def _hurry(self, now: float) -> None:
        """Return what has not started; once the grace period is over, what still runs."""
        for slot in self._slots:
            if slot.claim is not None and not slot.running:
                self._recorder.lost(Loss(slot.release()))
            elif slot.claim is not None and now >= self._stop_by:
                log.info("%s: returned to the queue, the grace period is over", slot.claim.job_id)
                self._discard(slot)
                self._recorder.lost(Loss(slot.release()))

    def _close(self) -> None:
        self._provisioner.close()
        self._bell.close()
        for slot in self._slots:
            self._discard(slot)
        if self._points is not None:
            self._points.close(2.0)
        self._with_redis(self._registration.death)
        self._state_lock.seek(0)
        self._state_lock.truncate()
        self._state_lock.close()
        log.info("worker %s: stopped", self._name)


def _executor(slot: Slot) -> ExecutorProcess:
    if slot.executor is None:
        raise RuntimeError(f"slot {slot.number} has no executor")
    return slot.executor


def _stopped(claim: Claim, verdict: Verdict, started: float, tail: bytes) -> Outcome:
    error = f"stopped: {verdict.reason}"
    trace = f"{error}\n\n{tail.decode('utf-8', 'replace')[-4000:]}"
    duration = time.time() - started
    fingerprint = _fingerprint(verdict.kind)
    return Outcome(
        claim, "failed", started, duration, error=error, fingerprint=fingerprint, traceback=trace, output=tail
    )


def _fingerprint(kind: str) -> str:
    return hashlib.sha256(kind.encode()).hexdigest()[:8]


def _lock_state(state_dir: Path) -> TextIO:
    """Open ``state_dir/worker`` and lock it: one worker per directory, and none takes over a living one."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file = os.fdopen(os.open(state_dir / "worker", os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"another worker uses {state_dir}: give this one its own CLOUDBURST_STATE_DIR"
        ) from None
    return file


def _connect(config: WorkerConfig) -> redis.Redis:
    """Connect, waiting for a Redis that is still starting."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return connection.connect(config.redis_url)
        except QueueError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("%s", error)
            time.sleep(1)
