"""How much work waits, by what jobs have shown so far."""

from __future__ import annotations

import time

from cloudburst.model import EnsembleSpec
from cloudburst.rqwire import work
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Claim, Leases, Outcome
from cloudburst.rqwire.workers import Registration
from tests.conftest import RedisServer


class Queue:
    def __init__(self, server: RedisServer) -> None:
        self.redis = server.client()
        self.ensembles = Ensembles(self.redis)
        self.leases = Leases(self.redis, queue="default", worker="w", node="n", lease_s=600)

    def submit(self, jobs: int) -> str:
        ensemble = self.ensembles.create(EnsembleSpec("e", "worker.work", ""))
        self.ensembles.append(ensemble, "worker.work", 0, [b"{}"] * jobs)
        self.ensembles.seal(ensemble)
        return ensemble

    def finish(self, claims: list[Claim], *durations_s: float) -> None:
        now = time.time()
        pairs = zip(claims, durations_s, strict=True)
        self.leases.finish([Outcome(one, "finished", now, took_s, value=b"1") for one, took_s in pairs])

    def work(self, later_s: float = 0.0) -> work.Work:
        return work.read(self.redis, "default", time.time() + later_s)


def test_nothing_waits(redis_server):
    assert Queue(redis_server).work() == work.Work(0, 0.0)


def test_before_any_job_has_run_nobody_knows(redis_server):
    queue = Queue(redis_server)
    queue.submit(10)

    assert queue.work() == work.Work(10, None)


def test_jobs_that_finished_tell_for_their_ensemble(redis_server):
    queue = Queue(redis_server)
    queue.submit(12)
    queue.finish(queue.leases.claim(2), 10.0, 20.0)

    assert queue.work() == work.Work(10, 150.0)


def test_each_ensemble_has_its_own_mean_and_those_without_that_of_the_others(redis_server):
    queue = Queue(redis_server)
    queue.submit(3)
    queue.finish(queue.leases.claim(1), 100.0)
    claims = queue.leases.claim(2)
    queue.submit(3)
    queue.finish(claims, 100.0, 100.0)
    queue.finish(queue.leases.claim(1), 10.0)
    queue.submit(2)

    assert queue.work() == work.Work(4, 40.0)


def test_jobs_that_run_tell_how_long_they_take_at_least(redis_server):
    queue = Queue(redis_server)
    ensemble = queue.submit(4)
    queue.leases.claim(2)
    found = queue.work(later_s=600)

    assert found.waiting == 2
    assert found.work_s is not None
    assert 1190 < found.work_s < 1260
    queue.ensembles.note(ensemble, "building the environment")
    assert queue.work(later_s=600) == work.Work(2, None)


def test_workers_tell_about_jobs_of_stock_clients(redis_server):
    queue = Queue(redis_server)
    worker = Registration(queue.redis, name="w", queue="default", node="n", slots=1)
    worker.heartbeat(busy=0, current_job="")
    queue.redis.hset(
        "rq:worker:w", mapping={"total_working_time": "30", "successful_job_count": 2, "failed_job_count": 1}
    )
    queue.redis.rpush("rq:queue:default", *range(5))

    assert queue.work() == work.Work(5, 50.0)
