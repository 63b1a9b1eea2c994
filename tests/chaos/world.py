"""A small stack in which everything can be killed: workers behind proxies, ensembles that note what runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from cloudburst import archive
from cloudburst.model import EnsembleSpec, JobRecord
from cloudburst.rqwire.ensembles import encode_description
from cloudburst.rqwire.ledger import Ledger
from cloudburst.rqwire.workers import workers
from tests.chaos import ledger, payload
from tests.chaos.payload import Note
from tests.chaos.proxy import Proxy
from tests.wait import wait_until
from tests.worker.conftest import TOKEN, MiniStack

LEASE_S = 3
RESTART_S = LEASE_S + 2
"""A job of a killed worker runs again within its lease and two seconds: this is promised."""


class Worker:
    """A worker process and the proxy through which it sees Redis."""

    def __init__(
        self, process: subprocess.Popen[bytes], node: str, proxy: Proxy, client: redis.Redis
    ) -> None:
        self.process = process
        self.node = node
        self.proxy = proxy
        self._redis = client
        self._name = ""
        self.told_to_end = False
        """By the tests; one that ends otherwise should not have ended."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def name(self) -> str:
        """As it has registered itself; "" before that."""
        if not self._name:
            self._name = next((w.name for w in workers(self._redis) if w.pid == self.pid), "")
        return self._name

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> float:
        """SIGKILL; returns when, in Unix time."""
        at = time.time()
        self.told_to_end = True
        self.process.kill()
        self.process.wait()
        return at

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        self.told_to_end = True
        self.process.terminate()

    def executors(self) -> list[int]:
        """Pids of its executors that are alive; its other child is the guard."""
        try:
            children = psutil.Process(self.pid).children()
            return [child.pid for child in children if alive(child.pid) and "-S" not in child.cmdline()]
        except psutil.NoSuchProcess:
            return []

    def held(self) -> set[str]:
        """Ids of jobs that it holds leases of."""
        ids = [job.decode() for job in self._redis.zrange("cb:lease:default", 0, -1)]
        name = self.name.encode()
        return {job for job in ids if self._redis.hget(f"rq:job:{job}", "worker_name") == name}


def alive(pid: int) -> bool:
    """Whether the process still runs; one that nobody has waited for yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def left_behind(mark: str) -> list[psutil.Process]:
    """Processes with that text in their command line: hostile jobs have started them."""
    processes = psutil.process_iter(["cmdline"])
    return [process for process in processes if any(mark in part for part in process.info["cmdline"] or ())]


@dataclass(frozen=True)
class Run:
    """One ensemble of the tests' payload."""

    ensemble: str
    notes_file: Path
    measurement: str
    points: int
    """Each job that works writes so many."""
    descriptions: Sequence[dict[str, Any]] = ()

    def works(self, n: int) -> bool:
        """Whether that job does what jobs are for."""
        return self.descriptions[n].get("what", "work") == "work"

    def notes(self) -> list[Note]:
        return payload.read_notes(self.notes_file)

    def starts(self, n: int = 0) -> list[Note]:
        """The attempts of one job that have started, in their order."""
        return [note for note in self.notes() if note.n == n]

    def index(self, job_id: str) -> int:
        return int(job_id.rpartition("-")[2])


class World:
    """Services that stay for many tests; workers and ensembles of the one that runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stack = MiniStack(directory)
        self.workers: list[Worker] = []
        self._runs = 0
        self._nodes = 0

    def start(self) -> None:
        """Start the services, and build the environment that all workers share."""
        payload.write(self.directory / "payload")
        self.stack.start()
        first = self.worker("warm-up")
        self.finish(self.submit(1))
        first.terminate()
        first.process.wait(20)

    def close(self) -> None:
        self.clear()
        self.stack.stop()

    @property
    def redis(self) -> redis.Redis:
        return self.stack.redis

    # -- workers ---------------------------------------------------------------------------------------

    def worker(self, node: str = "", **settings: Any) -> Worker:
        """A worker that is ready for jobs."""
        started = self.start_worker(node, **settings)
        wait_until(lambda: started.name, 20, "the worker to register")
        return started

    def pair(self, **settings: Any) -> tuple[Worker, Worker]:
        """Two workers, started at once."""
        first, second = (self.start_worker(**settings) for _ in range(2))
        wait_until(lambda: first.name and second.name, 20, "both workers to register")
        return first, second

    def start_worker(
        self,
        node: str = "",
        *,
        slots: int = 2,
        lease_s: int = LEASE_S,
        proxy: Proxy | None = None,
        **settings: str,
    ) -> Worker:
        """Start a worker without waiting for it; the same ``node`` again means the same state directory."""
        if not node:
            self._nodes += 1
            node = f"node{self._nodes}"
        state = self.directory / node
        environments = self.directory / "warm-up" / "environments"
        if not state.exists() and environments.exists():
            state.mkdir()
            (state / "environments").symlink_to(environments)
        proxy = proxy or Proxy(self.stack.redis_server.port)
        given = {"REDIS_PORT": str(proxy.port), "CLOUDBURST_LEASE_S": str(lease_s)} | settings
        process = self.stack.start_worker(slots=slots, state=node, **given)
        started = Worker(process, node, proxy, self.redis)
        self.workers.append(started)
        return started

    def replace(self, dead: Worker, **settings: Any) -> Worker:
        """Start a fresh worker in the place of a dead one."""
        self.forget(dead)
        return self.start_worker(dead.node, **settings)

    def forget(self, worker: Worker) -> None:
        worker.proxy.close()
        self.workers.remove(worker)

    def log(self, worker: Worker) -> str:
        return self.stack.log(f"worker-{worker.node}")

    def idle_survivor(self, lease_s: int = LEASE_S) -> Worker:
        """A worker that does nothing until it is resumed: the only one to run what another one loses."""
        survivor = self.worker(lease_s=lease_s)
        survivor.pause()
        return survivor

    # -- ensembles -------------------------------------------------------------------------------------

    def submit(
        self,
        count: int,
        function: str = "worker.work",
        *,
        s: float = 0.0,
        points: int = 0,
        each: Callable[[int], dict[str, Any]] = lambda n: {},
        digest: str = "",
        **spec: Any,
    ) -> Run:
        """Enqueue ``count`` jobs that take ``s`` seconds; ``each`` adds to the description of the n-th."""
        self._runs += 1
        run = f"run{self._runs}"
        notes = self.directory / f"{run}.notes"
        common = {"notes": str(notes), "s": s, "points": points, "measurement": run}
        descriptions = [common | {"n": n} | each(n) for n in range(count)]
        digest = digest or self.stack.upload(self.directory / "payload")
        ensemble = self.stack.ensembles.create(EnsembleSpec(run, function, digest, **spec))
        encoded = [encode_description(d, n) for n, d in enumerate(descriptions)]
        for first in range(0, count, 1000):
            self.stack.ensembles.append(ensemble, function, first, encoded[first : first + 1000])
        self.stack.ensembles.seal(ensemble)
        return Run(ensemble, notes, run, points, descriptions)

    def version(self, number: int, isolation: str = "reuse") -> str:
        """The digest of a payload that is another one, and does the same."""
        settings = f'max_jobs_per_executor = {10_000 + number}\nisolation = "{isolation}"\n'
        return self.stack.upload(payload.write(self.directory / f"payload-{number}-{isolation}", settings))

    def post_worker_zip(self) -> None:
        """Make the payload the one of stock jobs, too."""
        built = archive.build(self.directory / "payload", self.directory / "worker.zip")
        self.stack.store.put("worker.zip", built.path)

    def records(self, run: Run) -> list[JobRecord]:
        """Those there are, in the order of their indices."""
        return sorted(self.stack.ensembles.all_records(run.ensemble), key=lambda record: record.index)

    def complete(self, run: Run) -> bool:
        """Whether every job is final; False when Redis is away."""
        try:
            return self.stack.ensembles.status(run.ensemble).complete
        except redis.RedisError:
            return False

    def finish(self, run: Run, timeout_s: float = 60) -> list[JobRecord]:
        """Wait until every job is final, and hold Redis and the database to what is promised."""
        wait_until(lambda: self.complete(run), timeout_s, f"{run.ensemble} to end")
        self.check(run)
        return self.records(run)

    def check(self, *runs: Run) -> None:
        """One record for each accepted job, nothing left over, all points of finished jobs in full."""
        breaches = ledger.breaches(self.redis)
        audit = Ledger(self.redis).everything()  # the product's own account agrees with ours
        breaches += [f"audit: {b}" for account in (*audit.ensembles, *audit.queues) for b in account.breaches]
        assert not breaches, "\n".join(breaches)
        for run in runs:
            started = {(note.n, note.attempt) for note in run.notes()}
            finished = {(r.index, r.attempt) for r in self.records(run) if r.state == "finished"}
            assert not finished - started, "finished, but never started"
            if run.points:
                wait_until(lambda run=run: not self.missing_points(run), 60, f"the points of {run.ensemble}")

    def missing_points(self, run: Run) -> set[int]:
        """Times of points that finished jobs wrote and the database does not have; or the reverse."""
        wanted = {
            record.index * 1000 + k + 1
            for record in self.records(run)
            if record.state == "finished" and run.works(record.index)
            for k in range(run.points)
        }
        rows = [json.loads(line) for line in self.points(run.measurement)]
        for row in rows:
            assert row["fields"] == {"value": float(row["time"] // 1000)}, row
        times = [row["time"] for row in rows]
        assert len(times) == len(set(times)), "points are doubled"
        unfinished = {record.index for record in self.records(run) if record.state != "finished"}
        return wanted ^ {time for time in times if time // 1000 not in unfinished}

    def points(self, measurement: str) -> list[str]:
        """The points of a measurement, one JSON line each."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.stack.points_port}/cloudburst/points?measurement={measurement}",
            headers={"Authorization": f"Token {TOKEN}"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read().decode().splitlines()

    def kill_points(self) -> None:
        """SIGKILL the database of points; ``stack.start_points`` brings it back."""
        for process in self._points_processes():
            process.kill()
            process.wait()

    def _points_processes(self) -> list[subprocess.Popen[bytes]]:
        return [p for p in self.stack.processes if "cloudburst.points" in p.args and p.poll() is None]

    # -- between tests ---------------------------------------------------------------------------------

    def clear(self) -> None:
        """End all workers and forget all jobs, whatever state a test has left them in."""
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGCONT)
            worker.process.kill()
            worker.proxy.close()
        for worker in self.workers:
            worker.process.wait()
        self.workers.clear()
        if self.stack.redis_server.process is None or self.stack.redis_server.process.poll() is not None:
            self.stack.redis_server.start()
        if not self._points_processes():
            self.stack.start_points()
        self.redis.flushall()


@contextlib.contextmanager
def world_in(directory: Path) -> Iterator[World]:
    """A started world, ended with the block."""
    world = World(directory)
    try:
        world.start()
        yield world
    finally:
        world.close()


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
