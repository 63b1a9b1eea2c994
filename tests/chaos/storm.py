"""Ensembles, with hostile jobs among them, under one random fault after another; a seed decides on all of it.

The order of faults, their places and their pauses are the seed's; how far the jobs have come when one strikes
is the machine's. So a seed repeats the storm, and not every race in it: run it again a few times.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import psutil
import redis

from cloudburst.errors import EnsembleError
from cloudburst.rqwire.ledger import Ledger
from tests.chaos import hostile_hashes, hostile_jobs, ledger
from tests.chaos.proxy import AFTER, ANSWERED, BEFORE, Call, cut
from tests.chaos.world import LEASE_S, RESTART_S, Run, Worker, World, left_behind, signal_all
from tests.points.misbehaving import Misbehaving, Write
from tests.wait import wait_until

WORKERS = 3
SCRIPTS = ("claim", "finish", "beat", "reap", "give_back", "unclaim")
MAX_ATTEMPTS = 12
JOBS = 250
"""Per ensemble. The next one is submitted when most of the last are done."""

VERSIONS = 6
"""Payloads that ensembles have in turns; every other one runs each job in a fork."""

HOSTILE = 0.06
"""Share of jobs that are hostile."""
SPOILED = 10
"""Stock jobs with spoiled hashes that come after each ensemble."""

TIMEOUT_S = 10
"""Of all jobs: some hostile ones never end. The good ones take 0.3 s at most."""

WORKER_MIB = 400
"""More than any worker needs, whatever its jobs say; one needs about 80."""

CALL_S = 3.0
"""How long a fault waits for the call that it is to strike at."""


@dataclass
class Outcome:
    """What one storm did, and what it found."""

    seed: int
    jobs: int = 0
    records: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    """Of workers, by phase."""
    executor_kills: int = 0
    pauses: int = 0
    redis_kills: int = 0
    lost_replies: int = 0
    database_faults: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    """Good jobs whose record does not say what they did."""
    hostile: Counter[str] = field(default_factory=Counter)
    """Jobs that were, by kind."""
    spoiled: int = 0
    """Stock jobs with hashes that no client writes."""
    worker_mib: float = 0.0
    """The most that one worker's process ever used."""
    max_attempt: int = 0
    longest_restart_s: float = 0.0
    """Of jobs of a killed worker, while nothing else was wrong."""
    audits: int = 0
    """While jobs ran."""
    breaches: list[str] = field(default_factory=list)


class Storm:
    """One storm over one world."""

    def __init__(self, world: World, seed: int) -> None:
        self.outcome = Outcome(seed)
        self._world = world
        self._dice = random.Random(seed)
        self._runs: list[Run] = []
        self._workers: list[Worker] = []
        self._nodes: set[str] = set()
        self._fault = 0
        """Number of the last one that began."""
        self._pausing: list[threading.Timer] = []
        self._over = threading.Event()
        self._spoiled: dict[str, str] = {}
        """Ids of stock jobs to what is wrong with them."""
        self._doubtful: set[str] = set()
        """Those that were being enqueued when Redis died."""
        self._mark = f"{90_000 + os.getpid()}.5"
        self._database = Misbehaving()
        self._database.behave = self._pass_on
        self._faults: list[tuple[int, Callable[[], None]]] = [
            *(
                (2, partial(self._kill_at, s, m))
                for s in ("claim", "finish")
                for m in (BEFORE, ANSWERED, AFTER)
            ),
            (1, partial(self._kill_at, "beat", ANSWERED)),
            (3, partial(self._kill, "running", 0.0)),
            (2, self._kill_starting),
            (2, self._kill_stopping),
            (2, self._stop),
            (3, self._kill_executor),
            (2, self._pause),
            (3, self._kill_redis),
            (6, self._lose_replies),
            (2, self._partition),
            (2, self._database_fails),
            (1, self._database_dies),
            (2, self._upgrade),
        ]

    # -- the whole storm -------------------------------------------------------------------------------

    def rage(self, *, seconds: float = math.inf, jobs: float = math.inf) -> Outcome:
        """Until ``seconds`` have passed or so many jobs were submitted, then calm down and count."""
        self._world.post_worker_zip()
        self._workers = [self._start() for _ in range(WORKERS)]
        wait_until(lambda: all(worker.name for worker in self._workers), 30, "the workers to register")
        deadline = time.monotonic() + seconds
        submitting = threading.Thread(target=self._submit_all, args=(deadline, jobs))
        auditing = threading.Thread(target=self._audit_all)
        for thread in (submitting, auditing):
            thread.start()
        try:
            weights = [weight for weight, _ in self._faults]
            while submitting.is_alive():
                ((_, fault),) = self._dice.choices(self._faults, weights)
                self._fault += 1
                fault()
                self._revive()
                self._over.wait(self._dice.choice([0.0, 0.1, 0.5, 1.5]))
            self._calm_down()
            self._over.set()
            self._count()
            self._look_behind()
        finally:
            self._over.set()
            for thread in (submitting, auditing):
                thread.join()
            self._database.end()  # not before the last spool is delivered
        return self.outcome

    def _submit_all(self, deadline: float, jobs: float) -> None:
        """Ensemble after ensemble; submission itself is another test's."""
        submitted = 0
        while submitted < jobs and time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError):
                if self._runs and self._left(self._runs[-1]) > JOBS // 5:
                    time.sleep(0.05)
                    continue
                self._runs.append(self._submit(len(self._runs)))
                submitted += JOBS
                self._spoil()
        while self._runs and not all(map(self._world.complete, self._runs)) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _submit(self, number: int) -> Run:
        dice = random.Random(f"{self.outcome.seed} {number}")

        def each(n: int) -> dict:
            what = dice.random()
            if what < 0.005:
                return {"what": "executor"}
            if what < 0.005 + HOSTILE:
                return hostile_jobs.description(dice, self._mark)
            return {"s": dice.choice([0.0, 0.01, 0.01, 0.05, 0.3]), "fail": what > 0.98}

        return self._world.submit(
            JOBS,
            "worker.mixed",
            points=1,
            each=each,
            digest=self._version(number),
            max_attempts=MAX_ATTEMPTS,
            retries=1,
            timeout_s=TIMEOUT_S,
        )

    def _version(self, number: int) -> str:
        return self._world.version(number % VERSIONS, "fork" if number % 2 else "reuse")

    def _spoil(self) -> None:
        """Enqueue stock jobs that are not what they should be, as a broken client would."""
        dice = random.Random(f"{self.outcome.seed} stock {len(self._spoiled)}")
        for name in dice.sample(sorted(hostile_hashes.SPOILED), SPOILED):
            job_id = f"spoiled{len(self._spoiled)}"
            self._spoiled[job_id] = name
            try:
                hostile_hashes.enqueue(self._world.redis, name, job_id)
            except redis.ConnectionError:
                self._doubtful.add(job_id)

    def _left(self, run: Run) -> int:
        status = self._world.stack.ensembles.status(run.ensemble)
        return status.total - status.ended

    def _upgrade(self) -> None:
        """No fault, but jobs change their payload while others run."""
        with contextlib.suppress(redis.RedisError, EnsembleError, IndexError):
            run = self._dice.choice(self._runs[-2:])
            version = self._version(self._dice.randrange(VERSIONS))
            self._world.stack.ensembles.upgrade(run.ensemble, version)

    def _audit_all(self) -> None:
        """The product's own audit, again and again while everything is under way."""
        while not self._over.wait(1.0):
            self._weigh()
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                self.outcome.breaches += [f"audit while it ran: {breach}" for breach in self._audited()]
                self.outcome.audits += 1

    def _audited(self) -> list[str]:
        """What the product's own audit has to say, but of jobs that are spoiled."""
        try:
            found = Ledger(self._world.redis).everything()
        except (redis.ResponseError, ValueError, LookupError, TypeError) as error:
            return [f"it cannot be made: {type(error).__name__}: {error}"]
        breaches = [breach for account in (*found.ensembles, *found.queues) for breach in account.breaches]
        return [str(breach) for breach in breaches if breach.job_id not in self._spoiled]

    def _weigh(self) -> None:
        for worker in list(self._workers):
            with contextlib.suppress(psutil.Error):
                mib = psutil.Process(worker.pid).memory_info().rss / (1 << 20)
                self.outcome.worker_mib = max(self.outcome.worker_mib, mib)

    def _calm_down(self) -> None:
        """Everything is well again; what was left on the disks of dead nodes is delivered by new workers."""
        self._database.over.set()
        self._database.behave = self._pass_on
        for timer in self._pausing:
            timer.join()
        for worker in self._workers:
            worker.proxy.behave()
        self._revive()
        busy = {worker.node for worker in self._workers}
        for node in sorted(self._nodes - busy):
            if any((self._world.directory / node / "spool").glob("*.lp")):
                self._start(node)
        for run in self._runs:
            wait_until(partial(self._world.complete, run), 120, f"{run.ensemble} to end")

    def _count(self) -> None:
        """Accounts, in the tests' own bookkeeping and in the product's."""
        found = self.outcome
        found.breaches += ledger.breaches(self._world.redis, spoiled=self._spoiled)
        found.breaches += [f"audit: {breach}" for breach in self._audited()]
        found.spoiled = len(self._spoiled)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._unfinished(), 60, "stock jobs")
        found.breaches += self._unfinished()
        if found.worker_mib > WORKER_MIB:
            found.breaches.append(f"a worker used {found.worker_mib:.0f} MiB, {WORKER_MIB} are plenty")
        for run in self._runs:
            records = self._world.records(run)
            indices = Counter(record.index for record in records)
            found.jobs += JOBS
            found.records += len(records)
            found.lost += JOBS - len(indices)
            found.doubled += sum(n - 1 for n in indices.values())
            found.max_attempt = max([found.max_attempt, *(record.attempt for record in records)])
            found.hostile.update(d["kind"] for d in run.descriptions if d.get("what") == "hostile")
            wrong = ledger.wrong(run.descriptions, records)
            found.wrong += len(wrong)
            found.breaches += wrong
            with contextlib.suppress(AssertionError):
                wait_until(lambda run=run: not self._world.missing_points(run), 30, "points")
            missing = self._world.missing_points(run)
            if missing:
                found.breaches.append(f"{run.ensemble}: {len(missing)} points missing: {sorted(missing)[:5]}")
        found.lost_replies = sum(worker.proxy.cuts.total() for worker in self._world.workers) + self._cuts

    def _unfinished(self) -> list[str]:
        """Stock jobs that have not come to an end, with what is wrong with them."""
        ids = set(self._spoiled) - self._doubtful
        left = hostile_hashes.unfinished(self._world.redis, ids)
        return [f"{job_id} ({self._spoiled[job_id]}): {what}" for job_id, what in sorted(left.items())]

    def _look_behind(self) -> None:
        """No process of a job is left once all jobs have ended, although the workers go on."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not left_behind(self._mark), 20, "what jobs have started to end")
        left = left_behind(self._mark)
        self.outcome.breaches += [f"left behind: {process.info['cmdline']}" for process in left]
        signal_all([process.pid for process in left], signal.SIGKILL)

    # -- workers ---------------------------------------------------------------------------------------

    _cuts = 0

    def _start(self, node: str = "") -> Worker:
        started = self._world.start_worker(node, INFLUX_URL=self._database.url)
        self._nodes.add(started.node)
        return started

    def _revive(self) -> None:
        """As many workers as before: in the place of a dead one, or on a fresh node."""
        for dead in [worker for worker in self._workers if not worker.alive]:
            self._workers.remove(dead)
            if not dead.told_to_end:
                said = self._world.log(dead)[-500:].splitlines()[-1:]
                status = dead.process.returncode
                self.outcome.breaches.append(
                    f"{dead.node}'s worker ended by itself (status {status}): {said}"
                )
            self._cuts += dead.proxy.cuts.total()
            self._world.forget(dead)
            self._workers.append(self._start(dead.node if self._dice.random() < 0.5 else ""))

    def _any_worker(self) -> Worker:
        return self._dice.choice(self._workers)

    # -- kills -----------------------------------------------------------------------------------------

    def _kill_at(self, script: str, moment) -> None:
        """SIGKILL a worker at one of its calls."""
        worker = self._any_worker()
        phase = f"{script} {moment.name.lower()}"
        rule = worker.proxy.when(script, moment, lambda call: self._dead(worker, phase), only=_fruitful)
        if not rule.seen.wait(CALL_S):
            rule.times = 0  # there was no such call

    def _kill(self, phase: str, after_s: float) -> None:
        worker = self._any_worker()
        time.sleep(after_s)
        self._dead(worker, phase)

    def _kill_starting(self) -> None:
        self._kill("starting", 0.0)
        self._revive()
        time.sleep(self._dice.uniform(0.0, 1.5))
        self._dead(self._workers[-1], "starting")

    def _kill_stopping(self) -> None:
        worker = self._any_worker()
        if worker.alive:
            worker.terminate()
        time.sleep(self._dice.uniform(0.0, 0.3))
        self._dead(worker, "stopping")

    def _stop(self) -> None:
        worker = self._any_worker()
        if worker.alive:
            worker.terminate()
            with contextlib.suppress(Exception):
                worker.process.wait(15)

    def _dead(self, worker: Worker, phase: str) -> None:
        """Kill it, and watch that its jobs run again in time."""
        if not worker.alive:
            return
        held: set[str] = set()
        with contextlib.suppress(redis.RedisError):
            held = worker.held()
        killed_at = worker.kill()
        self.outcome.kills[phase] += 1
        if held:
            watching = threading.Thread(target=self._watch, args=(held, killed_at, self._fault), daemon=True)
            watching.start()
            if self._dice.random() < 0.5:
                watching.join(RESTART_S + 1)

    def _watch(self, held: set[str], killed_at: float, fault: int) -> None:
        """How long it takes; what takes longer while something else is wrong, too, promises nothing."""
        while held and self._fault == fault and not self._over.is_set():
            with contextlib.suppress(redis.RedisError, StopIteration):
                held = {job for job in held if not self._again(job, killed_at)}
            if held and time.time() > killed_at + RESTART_S:
                if self._fault == fault and not self._over.is_set():
                    self.outcome.breaches.append(f"not running again {RESTART_S} s after a kill: {held}")
                return
            time.sleep(0.02)
        if self._fault == fault and not held:
            took = time.time() - killed_at
            self.outcome.longest_restart_s = max(self.outcome.longest_restart_s, took)

    def _again(self, job: str, killed_at: float) -> bool:
        """Whether the job has started since, or needs not."""
        status = self._world.redis.hget(f"rq:job:{job}", "status")
        if status not in {b"queued", b"started", b"scheduled"}:
            return True
        run = next(run for run in self._runs if job.startswith(run.ensemble))
        return any(note.at > killed_at for note in run.starts(run.index(job)))

    def _kill_executor(self) -> None:
        executors = self._any_worker().executors()
        if executors:
            signal_all([self._dice.choice(executors)], signal.SIGKILL)
            self.outcome.executor_kills += 1

    # -- everything else -------------------------------------------------------------------------------

    def _pause(self) -> None:
        """SIGSTOP for twice the lease; the storm goes on meanwhile."""
        worker = self._any_worker()
        if worker.alive:
            worker.pause()
            self.outcome.pauses += 1
            timer = threading.Timer(2 * LEASE_S, worker.resume)
            timer.start()
            self._pausing.append(timer)

    def _kill_redis(self) -> None:
        self._world.stack.redis_server.kill()
        time.sleep(self._dice.choice([0.0, 0.5, 2.0, LEASE_S + 1.0]))
        self._world.stack.redis_server.start()
        self.outcome.redis_kills += 1

    def _lose_replies(self) -> None:
        worker = self._any_worker()
        script = self._dice.choice(SCRIPTS)
        moment = self._dice.choice([BEFORE, ANSWERED])
        rule = worker.proxy.when(script, moment, cut, only=_fruitful, times=self._dice.choice([1, 1, 3]))
        rule.seen.wait(CALL_S)
        rule.times = 0

    def _partition(self) -> None:
        worker = self._any_worker()
        worker.proxy.partition()
        time.sleep(self._dice.uniform(0.0, 1.5 * LEASE_S))
        worker.proxy.behave()

    def _pass_on(self, write: Write) -> None:
        try:
            status, body = write.pass_on(f"http://127.0.0.1:{self._world.stack.points_port}")
        except OSError:
            write.cut()
        else:
            write.reply(status, body)

    def _database_fails(self) -> None:
        behaviours: list[Callable[[Write], None]] = [
            lambda write: write.reply(503, b'{"message": "busy"}'),
            lambda write: write.reply(429, Retry_After="1"),
            lambda write: write.cut(),
            lambda write: time.sleep(4) or write.cut(),
        ]
        self._database.behave = self._dice.choice(behaviours)
        time.sleep(self._dice.uniform(0.5, 4.0))
        self._database.behave = self._pass_on
        self.outcome.database_faults += 1

    def _database_dies(self) -> None:
        self._world.kill_points()
        time.sleep(self._dice.uniform(0.0, 3.0))
        self._world.stack.start_points()
        self.outcome.database_faults += 1


def _fruitful(call: Call) -> bool:
    return call.fruitful


@contextlib.contextmanager
def storm_over(world: World, seed: int) -> Iterator[Storm]:
    """A storm, and a world that is clear of it afterwards."""
    try:
        yield Storm(world, seed)
    finally:
        world.clear()
