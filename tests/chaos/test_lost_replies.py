"""Calls whose answer is lost, and calls that are lost themselves: whoever repeats them doubles nothing."""

from __future__ import annotations

import math
import signal

import pytest
import redis

from cloudburst.model import EnsembleSpec
from cloudburst.rqwire.ensembles import Ensembles, encode_description
from tests.chaos.proxy import ANSWERED, BEFORE, Call, Moment, Proxy, cut
from tests.chaos.world import World, signal_all
from tests.wait import wait_until


class EveryNth:
    """An action: break the connection at every n-th call, and let the others pass."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._calls = 0

    def __call__(self, call: Call) -> None:
        self._calls += 1
        if self._calls % self._n == 0:
            cut(call)


@pytest.mark.parametrize(
    ("script", "moment"),
    [
        pytest.param("claim", ANSWERED, id="claim, answer"),
        pytest.param("claim", BEFORE, id="claim, call"),
        pytest.param("finish", ANSWERED, id="finish, answer"),
        pytest.param("finish", BEFORE, id="finish, call"),
        pytest.param("beat", ANSWERED, id="beat, answer"),
        pytest.param("reap", ANSWERED, id="reap, answer"),
    ],
)
def test_losing_every_third_of_a_scripts_calls_doubles_nothing(world: World, script: str, moment: Moment):
    workers = world.pair(lease_s=2)
    for worker in workers:
        worker.proxy.when(script, moment, EveryNth(3), times=math.inf, only=lambda call: call.fruitful)

    run = world.submit(100, s=0.05, points=1, max_attempts=20)

    records = world.finish(run, 90)
    assert {record.state for record in records} == {"finished"}
    if script == "finish":
        assert {record.attempt for record in records} == {1}


def test_jobs_of_claims_whose_answers_are_lost_return_at_once_and_cost_no_attempt(world: World):
    worker = world.worker(lease_s=30)
    worker.proxy.when("claim", ANSWERED, cut, only=lambda call: call.fruitful, times=4)
    worker.proxy.when("unclaim", ANSWERED, cut, times=1)

    run = world.submit(10)

    # Long before any lease could have run out; and four lost attempts would be more than there are.
    records = world.finish(run, 15)
    assert {(record.state, record.attempt) for record in records} == {("finished", 1)}


@pytest.mark.parametrize("moment", [ANSWERED, BEFORE], ids=["answer", "call"])
def test_losing_what_gives_jobs_back_doubles_nothing(world: World, moment: Moment):
    worker = world.worker(lease_s=2)
    worker.proxy.when("give_back", moment, EveryNth(2), times=math.inf)
    run = world.submit(60, s=0.05, max_attempts=20)

    for _ in range(4):
        before = len(run.notes())
        wait_until(lambda before=before: len(run.notes()) > before, 20, "jobs to go on")
        signal_all(worker.executors()[:1], signal.SIGKILL)
    worker.terminate()
    assert worker.process.wait(20) == 0
    world.worker(lease_s=2)

    assert {record.state for record in world.finish(run)} == {"finished"}


def test_a_worker_that_takes_over_while_answers_are_lost_starts_after_all(world: World):
    dead = world.worker(lease_s=2)
    run = world.submit(4, s=1)
    wait_until(lambda: len(run.notes()) == 2, what="two jobs to start")
    dead.kill()
    proxy = Proxy(world.stack.redis_server.port)
    proxy.when("abandon", ANSWERED, cut)

    fresh = world.replace(dead, lease_s=2, proxy=proxy)

    wait_until(lambda: proxy.cuts["abandon"], 20, "the answer to be lost")
    if not fresh.name:  # whoever runs it starts it again
        wait_until(lambda: fresh.name or not fresh.alive, 20, "the worker to register or to give up")
    if not fresh.alive:
        world.replace(fresh, lease_s=2)
    assert {record.state for record in world.finish(run)} == {"finished"}


def test_answers_lost_of_everything_at_once_double_nothing(world: World):
    workers = world.pair(lease_s=2)
    scripts = ["claim", "finish", "beat", "reap", "give_back", "unclaim"]
    for n, worker in enumerate(workers):
        worker.proxy.when(scripts, ANSWERED, EveryNth(7 + n), times=math.inf)

    run = world.submit(300, s=0.01, points=2, max_attempts=20)

    assert {record.state for record in world.finish(run, 90)} == {"finished"}


@pytest.mark.parametrize("script", ["append", "seal", "close", "retry", "withdraw"])
def test_a_client_that_repeats_its_calls_doubles_nothing(world: World, script: str):
    digest = world.stack.upload(world.directory / "payload")
    proxy = Proxy(world.stack.redis_server.port)
    for moment in (BEFORE, ANSWERED):
        proxy.when(script, moment, EveryNth(3), times=math.inf)
    client = Ensembles(redis.Redis(port=proxy.port, retry=None))

    def patiently(call, *args, **kwargs):
        for _ in range(20):
            try:
                return call(*args, **kwargs)
            except redis.ConnectionError:
                continue
        raise AssertionError("the call never came through")

    run = world.submit(0)
    ensemble = client.create(EnsembleSpec("lossy", "worker.work", digest))
    common = {"notes": str(run.notes_file), "measurement": "lossy"}
    for first in range(0, 100, 10):
        jobs = [
            encode_description(common | {"n": n, "fail": n % 10 == 0}, n) for n in range(first, first + 10)
        ]
        patiently(client.append, ensemble, "worker.work", first, jobs)
    patiently(client.cancel, ensemble) if script in {"close", "withdraw"} else patiently(
        client.seal, ensemble
    )
    world.worker()
    wait_until(lambda: client.status(ensemble).ended == 100, 30, "the ensemble to end")
    if script == "retry":
        patiently(client.retry, ensemble)
        wait_until(lambda: client.status(ensemble).ended == 100, 30, "the ensemble to end again")

    world.check()
    assert client.status(ensemble).total == 100
    started = len(run.notes())
    if script == "retry":  # repeated, it may find failed what has been retried and has failed again
        assert started in {110, 120}
    else:
        assert started == (0 if script in {"close", "withdraw"} else 100)
    proxy.close()
