"""A stock RQ worker and ours, each with a Redis of its own, behind one face."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import redis
from rq import Queue
from rq.job import Job
from rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
)
from rq.serializers import JSONSerializer

from cloudburst.rqwire.ledger import Ledger
from cloudburst.worker import ahead
from tests.conftest import RedisServer
from tests.contract import features
from tests.wait import wait_until
from tests.worker.conftest import MiniStack

REGISTRIES = {
    "canceled": CanceledJobRegistry,
    "deferred": DeferredJobRegistry,
    "failed": FailedJobRegistry,
    "finished": FinishedJobRegistry,
    "scheduled": ScheduledJobRegistry,
}
FINAL = ("finished", "failed", "stopped", "canceled")


class Side:
    """One kind of worker that serves the queue ``default``; what it did is read back through stock RQ."""

    name = ""
    held_ahead_s = 0.0
    """For so long after a long job has begun, the worker may claim others behind it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.trace = directory / "trace"
        self.redis: redis.Redis
        self.process: subprocess.Popen[bytes]

    def queue(self, name: str = "default") -> Queue:
        return Queue(name, connection=self.redis, serializer=JSONSerializer)

    def params(self, name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "trace": str(self.trace), **more}

    def enqueue(self, function: str, name: str = "job", *, queue: str = "default", **how: Any) -> Job:
        """Enqueue a function of the payload; ``params`` of ``how`` go into its description."""
        params = self.params(name, **how.pop("params", {}))
        return self.queue(queue).enqueue(f"features.{function}", params, **how)

    def hold(self) -> Path:
        """Keep the worker busy until the returned file is made; so that jobs behind it wait."""
        gate = self.trace.with_suffix(".gate")
        job = self.enqueue("gate", "gate", params={"gate": str(gate)})
        self.wait(job, "started")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began >= self.held_ahead_s, what="nothing to be claimed ahead")
        return gate

    def wait(self, job: Job, *statuses: str, timeout_s: float = 30) -> str:
        """Until the job has one of these statuses, by default a final one."""
        wanted = statuses or FINAL
        seen: dict[str, Any] = {}

        def reached() -> str:
            raw = self.redis.hget(job.key, "status")
            seen["status"] = raw.decode() if raw else "gone"
            return seen["status"] if seen["status"] in wanted else ""

        return wait_until(reached, timeout_s, f"{job.id} to be {' or '.join(wanted)}, not {seen}")

    def settle(self) -> None:
        """Until the worker has done all that is in its queue: a job behind the others has run."""
        self.wait(self.enqueue("note", "settled"))

    def again(self, job: Job) -> Job:
        return Job.fetch(job.id, connection=self.redis, serializer=JSONSerializer)

    def registry(self, name: str, queue: str = "default") -> list[str]:
        made = REGISTRIES[name](queue, connection=self.redis, serializer=JSONSerializer)
        return made.get_job_ids()

    def places(self, job: Job) -> list[str]:
        """Where stock tools find the job."""
        found = [name for name in REGISTRIES if job.id in self.registry(name, job.origin)]
        return found + (["queue"] if job.id in self.queue(job.origin).job_ids else [])

    def events(self) -> list[dict[str, Any]]:
        lines = self.trace.read_text().splitlines() if self.trace.exists() else []
        return [json.loads(line) for line in lines]

    def ran(self) -> list[str]:
        """Names of jobs in the order of their runs."""
        return [
            e["name"] for e in self.events() if e["event"] == "run" and e["name"] not in ("settled", "gate")
        ]

    def event(self, kind: str) -> dict[str, Any]:
        (found,) = [event for event in self.events() if event["event"] == kind]
        return found

    def ttl(self, key: str) -> int:
        """Seconds; -1: for ever, -2: no such key."""
        return int(self.redis.ttl(key))

    def worker_name(self) -> str:
        (key,) = self.redis.smembers("rq:workers")
        return key.decode().removeprefix("rq:worker:")

    def worker_state(self) -> str:
        return (self.redis.hget(f"rq:worker:{self.worker_name()}", "state") or b"").decode()

    def heartbeat(self) -> bytes:
        return self.redis.hget(f"rq:worker:{self.worker_name()}", "last_heartbeat") or b""

    def shutting_down(self) -> bool:
        """Whether the worker has said that it is about to end."""
        fields = self.redis.hgetall(f"rq:worker:{self.worker_name()}")
        return fields.get(b"cb_stopping") == b"1" or b"shutdown_requested_date" in fields

    def start_worker(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def ready(self) -> None:
        """A worker runs and has nothing to do; state of earlier tests is forgotten."""
        self.redis.delete("rq:suspended")
        if self.process.poll() is not None:
            self.process = self.start_worker()
        self.trace = self.directory / f"trace-{time.monotonic_ns()}"

    def check(self) -> None:
        """What must hold after every test."""

    def stop(self) -> None:
        raise NotImplementedError


class StockSide(Side):
    """``rq worker``: forks for each job, and runs the scheduler."""

    name = "stock"

    def start(self) -> None:
        (self.directory / "redis").mkdir()
        self.server = RedisServer(self.directory / "redis")
        self.server.start()
        self.redis = self.server.client()
        self.process = self.start_worker()

    def start_worker(self) -> subprocess.Popen[bytes]:
        command = Path(sys.executable).parent / "rq"
        argv = [
            command,
            "worker",
            "--url",
            self.server.url,
            "--with-scheduler",
            "--path",
            self.directory / "p",
        ]
        argv += ["--serializer", "rq.serializers.JSONSerializer", "default"]
        (self.directory / "p").mkdir(exist_ok=True)
        (self.directory / "p" / "features.py").write_text(Path(features.__file__).read_text())
        with (self.directory / "stock.log").open("ab") as log:
            process = subprocess.Popen([str(part) for part in argv], stdout=log, stderr=log, env=os.environ)
        # It subscribes to its commands a moment after it has registered.
        wait_until(lambda: self.redis.pubsub_channels("rq:pubsub:*"), 20, "the stock worker to listen")
        return process

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.server.kill()


class OurSide(Side):
    """Our worker with one slot."""

    name = "ours"
    held_ahead_s = 2 * ahead.LONGEST_S + 0.05

    def start(self) -> None:
        self.stack = MiniStack(self.directory)
        self.stack.redis_server.start()
        self.stack.redis_server.url_of("worker")
        self.redis = self.stack.redis = self.stack.redis_server.client()
        self.stack.start_filestore()
        self.stack.connect()
        with zipfile.ZipFile(self.directory / "worker.zip", "w") as archive:
            archive.write(features.__file__, "features.py")
            archive.writestr("Pipfile", "[packages]\n")
        self.stack.store.put("worker.zip", self.directory / "worker.zip")
        self.process = self.start_worker()
        self.wait(self.enqueue("note"), timeout_s=90)  # its environment is built once

    def start_worker(self) -> subprocess.Popen[bytes]:
        process = self.stack.worker(INFLUX_URL="")
        wait_until(lambda: self.redis.pubsub_channels("rq:pubsub:*"), 20, "our worker to listen")
        return process

    def check(self) -> None:
        audit = Ledger(self.redis).everything()
        breaches = [b for account in (*audit.ensembles, *audit.queues) for b in account.breaches]
        assert breaches == [], "the ledger does not add up"

    def stop(self) -> None:
        self.stack.stop()
