"""SIGKILL at every phase of a worker's life: its jobs run again within lease + 2 s, and are recorded once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.chaos.payload import IMPORT_S
from tests.chaos.proxy import AFTER, ANSWERED, BEFORE, Call
from tests.chaos.world import Run, Worker, World
from tests.wait import wait_until

pytestmark = pytest.mark.slow

JOBS = 6

LEASE_S = 2
RESTART_S = LEASE_S + 2


def killed_with_jobs(worker: Worker, kill: Callable[[], float]) -> tuple[set[str], float]:
    """The ids of the jobs that the worker held when it was killed, and when that was."""
    held = worker.held()
    return held, kill()


def assert_all_ran_again(world: World, run: Run, lost: set[str], killed_at: float) -> None:
    """Each lost job has started again, or was final already, within what is promised."""

    def waiting() -> set[str]:
        done = {record.job_id for record in world.records(run)}
        again = {note.n for note in run.notes() if note.at > killed_at}
        return {job for job in lost if job not in done and run.index(job) not in again}

    wait_until(lambda: not waiting(), killed_at + RESTART_S - time.time(), f"{lost} to run again")


@pytest.mark.parametrize(
    ("script", "moment"),
    [("claim", ANSWERED), ("claim", AFTER), ("finish", BEFORE), ("finish", ANSWERED), ("finish", AFTER)],
    ids=["claimed, not told", "claimed", "finishing", "finished, not told", "finished"],
)
def test_jobs_of_a_worker_killed_at_a_call_run_again_in_time(world: World, script, moment):
    survivor = world.idle_survivor(LEASE_S)
    worker = world.worker(lease_s=LEASE_S)
    lost: set[str] = set()
    killed_at = 0.0

    def kill(call: Call) -> None:
        nonlocal killed_at
        lost.update(worker.held())
        survivor.resume()
        killed_at = worker.kill()

    rule = worker.proxy.when(script, moment, kill, only=lambda call: call.fruitful)

    run = world.submit(JOBS, s=0.2)

    assert rule.seen.wait(20)
    assert_all_ran_again(world, run, lost, killed_at)
    records = world.finish(run)
    assert [record.state for record in records] == ["finished"] * JOBS
    if moment is ANSWERED and script == "finish":
        # What was recorded before the worker died stands, and is not run again.
        assert any(record.node == worker.node for record in records)


def test_a_job_that_comes_when_its_waiting_worker_is_killed_is_run_by_another(world: World):
    survivor = world.idle_survivor(LEASE_S)
    worker = world.worker(lease_s=LEASE_S)

    run = world.submit(1)
    killed_at = worker.kill()
    survivor.resume()

    wait_until(run.notes, killed_at + RESTART_S - time.time(), "the job to start")
    world.finish(run)


def test_jobs_of_a_worker_killed_while_its_executors_start_run_again_in_time(world: World):
    survivor = world.idle_survivor(LEASE_S)
    worker = world.worker(lease_s=LEASE_S)
    run = world.submit(2, "slow.work", s=0.1)
    wait_until(
        lambda: len(worker.held()) == 2 and len(worker.executors()) == 2, what="the executors to start"
    )
    assert run.notes() == []  # they import, as they will for a while

    lost, killed_at = killed_with_jobs(worker, worker.kill)
    survivor.resume()

    wait_until(
        lambda: {note.n for note in run.notes()} == {run.index(job) for job in lost},
        killed_at + RESTART_S + IMPORT_S - time.time(),
        "the jobs to start elsewhere",
    )
    assert {record.attempt for record in world.finish(run)} == {2}


def test_jobs_of_a_worker_killed_while_they_run_run_again_in_time(world: World):
    survivor = world.idle_survivor(LEASE_S)
    worker = world.worker(lease_s=LEASE_S)
    run = world.submit(2, s=2)  # no more: the survivor has free slots for them
    wait_until(lambda: len(run.notes()) == 2, what="two jobs to start")

    survivor.resume()
    lost, killed_at = killed_with_jobs(worker, worker.kill)

    assert len(lost) == 2
    assert_all_ran_again(world, run, lost, killed_at)
    world.finish(run)


def test_jobs_of_a_worker_killed_while_it_shuts_down_run_again_in_time(world: World):
    survivor = world.idle_survivor(LEASE_S)
    worker = world.worker(lease_s=LEASE_S)
    run = world.submit(2, s=2)  # no more: the survivor has free slots for them
    wait_until(lambda: len(run.notes()) == 2, what="two jobs to start")
    worker.terminate()
    wait_until(lambda: "stopping" in world.log(worker), what="the worker to shut down")

    survivor.resume()
    lost, killed_at = killed_with_jobs(worker, worker.kill)

    assert lost
    assert_all_ran_again(world, run, lost, killed_at)
    world.finish(run)


@pytest.mark.parametrize("moment", [BEFORE, ANSWERED], ids=["before", "after"])
def test_jobs_of_a_worker_killed_as_it_gives_them_back_run_again_in_time(world: World, moment):
    survivor = world.idle_survivor(LEASE_S)
    worker = world.worker(lease_s=LEASE_S, CLOUDBURST_GRACE_S="0")
    run = world.submit(2, s=1)
    wait_until(lambda: len(run.notes()) == 2, what="the jobs to start")
    held = worker.proxy.hold("give_back", moment)

    worker.terminate()
    held.wait()
    killed_at = worker.kill()
    held.release(lost=True)
    survivor.resume()

    assert_all_ran_again(world, run, {f"{run.ensemble}-0", f"{run.ensemble}-1"}, killed_at)
    world.finish(run)


def test_a_worker_that_starts_in_the_place_of_a_killed_one_runs_its_jobs_at_once(world: World):
    worker = world.worker(lease_s=60)
    run = world.submit(2, s=1)
    wait_until(lambda: len(run.notes()) == 2, what="the jobs to start")
    worker.kill()

    world.replace(worker, lease_s=60)

    assert [record.attempt for record in world.finish(run, 20)] == [2, 2]
