"""The worker's loop: claims jobs for free slots, keeps their leases, records what has ended.

One thread does all of this; it never waits for anything but its selector and short calls to Redis. What may
take long happens beside it: payloads are prepared in threads (``provision``), points are written in one
(``points.writer``), and user code runs in executors. It is long because it is the one place that says in
which order all of this happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TextIO, TypeVar

import redis

from cloudburst.config import WorkerConfig
from cloudburst.errors import ConfigError, QueueError
from cloudburst.points.database import Login
from cloudburst.points.series import SeriesLimit
from cloudburst.points.writer import open_writer
from cloudburst.rqwire import connection, nodes, output, workers
from cloudburst.rqwire.builds import Builds
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Claim, Leases
from cloudburst.rqwire.orders import Order
from cloudburst.rqwire.scripts import Scripts
from cloudburst.rqwire.series import SeriesCounts
from cloudburst.worker.orders import Orders
from cloudburst.worker.placing import Placing
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.provision import Provisioner
from cloudburst.worker.recorder import Recorder
from cloudburst.worker.slots import Slots
from cloudburst.worker.vitals import Vitals
from cloudburst.worker.wake import Bell, Wake

log = logging.getLogger(__name__)

T = TypeVar("T")

BEAT_S = 1.0
"""How often leases are extended, lost ones reaped, and the worker reports itself."""

SWEEP_S = 30.0
"""How often dead workers are removed from the lists of workers."""

REDIS_PAUSE_S = 0.5
"""After a failed call, Redis is left alone for so long."""

PLENTY = 4
"""Jobs in the queue per slot that make it a long one."""

REDIS_ANSWER_S = 6.0
"""A call that takes longer has failed. Calls that wait for something (``Bell``, ``Orders``) wait for less."""

NAME_CHARS = 500
"""A worker's name is shorter."""

REDIS_START_S = 30.0
"""How long a worker waits for a Redis that is still starting."""


class Worker:
    """One worker of one node. ``run`` returns when it has been told to stop and its jobs have ended."""

    def __init__(self, config: WorkerConfig, environ: Mapping[str, str]) -> None:
        self._state_lock = _lock_state(config.state_dir)
        self._name = workers.worker_name(config.node)
        self._redis = _connect(config)
        self._config = config = replace(config, slots=config.slots or _slots(self._redis, config))
        self._scripts = Scripts(self._redis)
        self._ensembles = Ensembles(self._redis)
        self._leases = Leases(
            self._redis, queue=config.queue, worker=self._name, node=config.node, lease_s=config.lease_s
        )
        self._registration = workers.Registration(
            self._redis, name=self._name, queue=config.queue, node=config.node, slots=config.slots
        )
        self._wake = Wake()
        self._bell = Bell(self._redis, config.queue, self._wake)
        self._orders = Orders(self._redis, self._name, self._wake)
        database = Login(
            config.influx_url, config.influx_token, config.influx_org, config.influx_bucket, config.ca_file
        )
        limit = config.series_limit
        series = SeriesLimit(SeriesCounts(self._redis, limit)) if limit else None
        self._points = open_writer(
            database, config.state_dir / "spool", called=self._wake.call, series=series
        )
        self._recorder = Recorder(self._points)
        builds = Builds(self._redis, config.node, config.lease_s)
        self._provisioner = Provisioner(config, environ, builds, called=self._wake.call, note=self._note)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._slots = Slots(config, environ, self._selector, self._recorder, self._fail_ensemble)
        self._vitals = Vitals(config, database)
        self._placing = Placing(self._slots, self._provisioner, lambda: self._registration.workers)
        self._stopping = False
        self._stop_by = 0.0
        self._away = False
        self._away_until = 0.0
        self._next_beat = 0.0
        self._next_sweep = 0.0
        self._queue_empty = False
        self._before = ""
        """A worker whose jobs are still to be returned."""

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit status."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.set_wakeup_fd(self._wake.theirs.fileno(), warn_on_full_buffer=False)
        self._take_over()
        # Before the first claim: whether the node is to be drained.
        self._with_redis(self._beat)
        log.info("worker %s: %d slots, queue %s", self._name, len(self._slots), self._config.queue)
        while not self._done():
            self._once()
        self._close()
        return 0

    def _once(self) -> None:
        ready = self._selector.select(self._patience())
        rest_s = self._placing.rest_s()
        if rest_s:
            time.sleep(rest_s)
        self._listen(ready)
        self._wake.drain()
        for order in self._orders.take():
            self._obey(order)
        now = time.monotonic()
        self._slots.enforce(now)
        if self._stopping:
            self._slots.give_back_unstarted()
            if now >= self._stop_by:
                self._slots.give_back_running()
        elif self._resting:
            self._slots.give_back_unstarted()
        else:
            # Free slots first: a CPU waits for them. What has ended can wait for a round trip.
            self._placing.dispatch()
            self._placing.give_back_excess()
        self._recorder.take_acknowledged()
        if self._turn():
            self._listen(self._selector.select(0))  # else jobs that have ended meanwhile would seem late
            self._placing.dispatch()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_S
            self._show_life()
            if self._vitals.due(now):
                self._registration.reading = self._vitals.take(
                    now,
                    slots=len(self._slots),
                    busy=len(self._slots.running()),
                    recorded=self._recorder.recorded,
                    kept_bytes=self._provisioner.bytes_kept,
                )
            self._with_redis(self._beat)
            crowded = self._provisioner.crowded
            in_use = self._slots.payloads(idle=not crowded)
            self._slots.end_idle(self._provisioner.evict(in_use, crowded=crowded))

    def _listen(self, ready: Iterable[tuple[selectors.SelectorKey, int]]) -> None:
        """Take what executors have said."""
        for key, _ in ready:
            if isinstance(key.fileobj, ExecutorProcess):
                self._slots.listen(key.data)

    def _show_life(self) -> None:
        """Health checks look at this file's time. It says nothing of Redis, which no restart brings back."""
        with contextlib.suppress(OSError):
            os.utime(self._state_lock.fileno())

    def _patience(self) -> float:
        now = time.monotonic()
        events = [self._slots.next_event(), self._placing.next_event(), self._next_beat]
        if self._stopping:
            events.append(self._stop_by)
        if self._recorder.unrecorded:
            events.append(self._away_until)
        return max(min(events) - now, 0.0)

    # -- claims ----------------------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Claim what is wanted and tell what has ended, in one round trip; whether there are new claims."""
        if self._bell.rang:
            self._bell.rang = self._queue_empty = False
        idle = self._stopping or self._resting or self._queue_empty or self._recorder.behind
        wanted, at_once = (0, 0) if idle else self._placing.wanted()
        outcomes, losses = self._recorder.batch()
        if not (wanted or outcomes or losses):
            return False
        if self._recorder.warnings:  # before the last job of their ensemble is recorded
            self._with_redis(self._warn)
        began = time.monotonic()
        turn = self._with_redis(
            lambda: self._leases.turn(
                count=wanted,
                at_once=at_once,
                has_last=self._has_last(),
                excluded=self._placing.excluded(),
                outcomes=outcomes,
                losses=losses,
            )
        )
        if turn is None:
            return False
        self._recorder.told(turn.finished, turn.given_back)
        if wanted:
            self._slots.ahead.waited(time.monotonic() - began)
            self._placing.take(turn.claims, plenty=turn.left > PLENTY * len(self._slots))
        # Jobs that are for others now are asked for again when something has ended here, and with each beat.
        if len(turn.claims) < wanted and not turn.for_others:
            self._queue_empty = True
            self._bell.arm()
        return bool(turn.claims)

    @property
    def _resting(self) -> bool:
        """Whether no job is to be started: running ones end, others are for other workers."""
        return self._registration.suspended or self._registration.draining

    def _has_last(self) -> bool:
        held = [*self._slots.claims(), *self._recorder.claims()]
        return any(claim.care > 1 for claim in held)

    def _beat(self) -> None:
        busy = self._slots.running()
        current_job = busy[0].job_id if busy else ""
        self._registration.points_waiting = self._points.waiting() if self._points else None
        gone, (back, aside), _, pending = self._scripts.ask(
            self._leases.beating([*self._slots.claims(), *self._recorder.claims()]),
            self._leases.reaping(),
            self._registration.living(busy=len(busy), current_job=current_job, stopping=self._stopping),
            self._leases.opening(),
        )
        self._slots.forget(gone)
        if back or aside:
            log.warning("leases ran out: %s returned to the queue, %s set aside", back, aside)
        self._publish_output()
        if not self._stopping and not self._registration.draining:
            self._placing.prepare(pending)
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_S
            self._registration.forget_expired()

    def _publish_output(self) -> None:
        for slot in self._slots:
            if slot.claims and slot.executor is not None:
                tail = slot.executor.output_tail()
                if tail != slot.published:
                    slot.published = tail
                    self._publish(slot.claims[0].job_id, tail)

    def _publish(self, job_id: str, tail: bytes) -> None:
        try:
            output.publish(self._redis, job_id, tail)
        except redis.ResponseError as error:
            if not connection.out_of_memory(error):
                raise
            log.debug("output of %s: %s", job_id, error)  # its end is kept with the record of a failure

    def _take_over(self) -> None:
        """Return the jobs of the worker that had this state directory before; leave our name for the next.

        That waits for Redis. Told to stop meanwhile, it leaves the other's name where it is.
        """
        self._state_lock.seek(0)
        self._before = self._state_lock.read(NAME_CHARS).strip()
        while self._before and not self._stopping:
            self._with_redis(self._abandon)
            if self._before:
                self._selector.select(REDIS_PAUSE_S)
                self._wake.drain()
        _write(self._state_lock, self._before or self._name)

    def _abandon(self) -> None:
        self._registration.death(self._before)
        back = self._leases.abandon(self._before)
        log.warning("worker %s died here: returned %s to the queue", self._before, back)
        self._before = ""

    def _obey(self, order: Order) -> None:
        log.info("worker %s: told to %s %s", self._name, order.kind, order.job_id)
        if order.kind == "stop-job":
            self._slots.stop(order.job_id)
        elif order.kind == "kill-horse":
            self._slots.kill_running()
        elif not self._stopping:
            self._on_signal(signal.SIGINT, None)

    # -- ensembles -------------------------------------------------------------------------------------

    def _fail_ensemble(self, claim: Claim, error: str) -> None:
        """No job of the ensemble can run: say so once, instead of once per job, in a thread of its own."""
        if not claim.ensemble:
            return

        def fail() -> None:
            try:
                count = self._ensembles.fail(claim.ensemble, error, payload=claim.payload)
                log.warning("ensemble %s failed, %d waiting jobs with it: %s", claim.ensemble, count, error)
            except redis.RedisError as reason:
                log.warning("ensemble %s: cannot tell that it failed: %s", claim.ensemble, reason)

        try:
            threading.Thread(target=fail, name="fail", daemon=True).start()
        except RuntimeError as reason:  # no thread to be had: the next job that fails like this tries again
            log.warning("ensemble %s: cannot tell that it failed: %s", claim.ensemble, reason)

    def _warn(self) -> None:
        while self._recorder.warnings:
            ensemble, text = self._recorder.warnings[0]
            log.warning("ensemble %s: %s", ensemble, text)
            self._ensembles.warn(ensemble, text)
            self._recorder.warnings.popleft()

    def _note(self, ensemble: str, text: str) -> None:
        try:
            self._ensembles.note(ensemble, text)
        except redis.RedisError as error:
            log.debug("note for %s: %s", ensemble, error)

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

    # -- the end ---------------------------------------------------------------------------------------

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._stopping:
            self._stop_by = min(self._stop_by, time.monotonic())  # asked twice: now
            return
        log.info("worker %s: %s, stopping", self._name, signal.Signals(number).name)
        self._stopping = True
        self._stop_by = time.monotonic() + self._config.grace_s

    def _done(self) -> bool:
        if not self._stopping or self._slots.claims():
            return False
        # If Redis stays away, what has ended comes back when its lease runs out, and is run again.
        return self._recorder.empty or time.monotonic() > self._stop_by + self._config.lease_s

    def _close(self) -> None:
        self._provisioner.close()
        self._bell.close()
        self._orders.close()
        self._slots.close()
        if self._points is not None:
            self._points.close(2.0)
        self._vitals.close()
        self._with_redis(self._registration.death)
        _write(self._state_lock, self._before)
        self._state_lock.close()
        log.info("worker %s: stopped", self._name)


def _slots(client: redis.Redis, config: WorkerConfig) -> int:
    """As many as an operator wishes of the node, else one per CPU that this process may use."""
    with connection.explained(config.redis_url, config.ca_file):
        wished = nodes.read(client, config.node).slots
    if wished:
        return wished
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lock_state(state_dir: Path) -> TextIO:
    """Open ``state_dir/worker`` and lock it: one worker per directory, and none takes over a living one."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file = os.fdopen(os.open(state_dir / "worker", os.O_RDWR | os.O_CREAT, 0o600), "r+", errors="replace")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"another worker uses {state_dir}: give this one its own CLOUDBURST_STATE_DIR"
        ) from None
    return file


def _write(file: TextIO, text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def _connect(config: WorkerConfig) -> redis.Redis:
    deadline = time.monotonic() + REDIS_START_S
    while True:
        try:
            return connection.connect(config.redis_url, ca_file=config.ca_file, timeout_s=REDIS_ANSWER_S)
        except QueueError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("%s", error)
            time.sleep(1)
