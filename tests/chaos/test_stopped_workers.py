"""SIGTERM in every phase: exit status 0, no lease left behind, what was not run goes back unharmed."""

from __future__ import annotations

import math
import subprocess
import threading

import pytest

from tests.chaos.proxy import AFTER, ANSWERED, BEFORE
from tests.chaos.world import Run, Worker, World
from tests.points.misbehaving import Misbehaving, Write
from tests.wait import wait_until

pytestmark = pytest.mark.slow

SCRIPT_PHASES = [
    pytest.param("claim", BEFORE, id="claiming"),
    pytest.param("claim", ANSWERED, id="claimed, not told"),
    pytest.param("claim", AFTER, id="claimed"),
    pytest.param("finish", BEFORE, id="finishing"),
    pytest.param("finish", ANSWERED, id="finished, not told"),
    pytest.param("beat", ANSWERED, id="beating"),
]


def assert_gone_cleanly(world: World, worker: Worker) -> None:
    """It has exited with 0, and Redis knows of nothing that it holds."""
    name = worker.name
    assert worker.process.wait(20) == 0
    leased = [job.decode() for job in world.redis.zrange("cb:lease:default", 0, -1)]
    assert [job for job in leased if world.redis.hget(f"rq:job:{job}", "worker_name") == name.encode()] == []
    assert f"rq:worker:{name}".encode() not in world.redis.smembers("rq:workers")


def assert_the_rest_is_run_at_its_first_attempt(world: World, run: Run) -> None:
    world.worker()
    records = world.finish(run)
    assert {(record.state, record.attempt) for record in records} == {("finished", 1)}


@pytest.mark.parametrize(("script", "moment"), SCRIPT_PHASES)
def test_sigterm_at_a_call_ends_the_worker_cleanly(world: World, script, moment):
    worker = world.worker()
    assert worker.name
    held = worker.proxy.hold(script, moment, only=lambda call: call.fruitful or script == "beat")
    run = world.submit(6, s=0.5)
    held.wait()

    worker.terminate()
    held.release()

    assert_gone_cleanly(world, worker)
    assert_the_rest_is_run_at_its_first_attempt(world, run)
    assert all(len(run.starts(n)) == 1 for n in range(6))


@pytest.mark.parametrize("script", ["finish", "give_back"])
def test_sigterm_while_answers_are_lost_ends_the_worker_cleanly(world: World, script: str):
    worker = world.worker(slots=1, CLOUDBURST_GRACE_S="0" if script == "give_back" else "30")
    assert worker.name
    world.finish(world.submit(1, s=0.5))  # the first claim may go back, because the payload is not ready
    lost = worker.proxy.hold(script, ANSWERED)
    run = world.submit(3, s=0.5)
    wait_until(run.notes, what="a job to start")

    worker.terminate()
    lost.wait()
    lost.release(lost=True)

    assert_gone_cleanly(world, worker)
    assert_the_rest_is_run_at_its_first_attempt(world, run)


def test_sigterm_while_the_worker_waits_for_jobs_ends_it_cleanly(world: World):
    worker = world.worker()
    assert worker.name

    worker.terminate()

    assert_gone_cleanly(world, worker)


def test_sigterm_while_executors_start_ends_the_worker_cleanly(world: World):
    worker = world.worker()
    run = world.submit(4, "slow.work")
    wait_until(lambda: len(worker.executors()) == 2, what="the executors to start")

    worker.terminate()

    assert_gone_cleanly(world, worker)
    assert_the_rest_is_run_at_its_first_attempt(world, run)


def test_sigterm_while_jobs_run_lets_them_finish_and_returns_the_rest_in_order(world: World):
    worker = world.worker()
    run = world.submit(6, s=1)
    wait_until(lambda: len(run.notes()) == 2, what="two jobs to start")

    worker.terminate()

    assert_gone_cleanly(world, worker)
    started = {note.n for note in run.notes()}
    status = world.stack.ensembles.status(run.ensemble)
    assert (status.finished, status.running, status.waiting) == (len(started), 0, 6 - len(started))
    waiting = [run.index(job.decode()) for job in world.redis.lrange("rq:queue:default", 0, -1)]
    assert waiting == [n for n in range(6) if n not in started]
    assert_the_rest_is_run_at_its_first_attempt(world, run)


@pytest.mark.parametrize("grace", ["the grace period is over", "told twice"])
def test_jobs_that_do_not_end_in_time_go_back_and_cost_no_attempt(world: World, grace: str):
    worker = world.worker(CLOUDBURST_GRACE_S="30" if grace == "told twice" else "1")
    run = world.submit(2, each=lambda n: {"s": 60} if n == 0 else {})
    wait_until(lambda: run.starts(0) and run.starts(1), what="the jobs to start")

    worker.terminate()
    if grace == "told twice":
        wait_until(lambda: "stopping" in world.log(worker), what="the worker to hear it")
        worker.terminate()

    assert_gone_cleanly(world, worker)
    assert world.redis.lrange("rq:queue:default", 0, -1) == [f"{run.ensemble}-0".encode()]
    assert world.redis.hget(f"rq:job:{run.ensemble}-0", "cb_attempt") == b"0"


def test_what_has_ended_is_recorded_also_if_told_twice_while_its_points_are_on_their_way(world: World):
    arrived, slow = threading.Event(), Misbehaving()

    def behave(write: Write) -> None:
        arrived.set()
        slow.over.wait(10)
        write.reply(*write.pass_on(f"http://127.0.0.1:{world.stack.points_port}"))

    slow.behave = behave
    worker = world.worker(slots=1, INFLUX_URL=slow.url, CLOUDBURST_GRACE_S="30")
    run = world.submit(1, points=3)
    assert arrived.wait(20)

    worker.terminate()
    wait_until(lambda: "stopping" in world.log(worker), what="the worker to hear it")
    worker.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        worker.process.wait(0.5)
    slow.over.set()

    assert_gone_cleanly(world, worker)
    slow.end()
    assert [record.state for record in world.finish(run)] == ["finished"]
    assert len(run.starts()) == 1


def test_sigterm_while_redis_is_away_ends_the_worker_all_the_same(world: World):
    worker = world.worker(slots=1, lease_s=2, CLOUDBURST_GRACE_S="1")
    run = world.submit(1, s=1)
    wait_until(run.notes, what="the job to start")
    away = worker.proxy
    away.hold("finish", BEFORE, times=math.inf).release(lost=True)
    away.partition()

    worker.terminate()

    assert worker.process.wait(20) == 0
    world.worker()
    (record,) = world.finish(run)
    assert record.attempt == 2
