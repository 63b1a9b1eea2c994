"""Executors that die with their worker, or alone: each costs the attempt of the one job that it ran."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.chaos import payload
from tests.chaos.world import World, alive, signal_all
from tests.wait import wait_until

GOOD = 1000


def payload_with(world: World, name: str, settings: str) -> str:
    """The digest of the tests' payload with a cloudburst.toml of its own."""
    return world.stack.upload(payload.write(world.directory / name, settings))


@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_all_executors_are_gone_a_second_after_their_worker(world: World, isolation: str):
    digest = payload_with(world, f"payload-{isolation}", f'isolation = "{isolation}"\n')
    worker = world.worker()
    run = world.submit(2, s=60, digest=digest)
    notes = wait_until(lambda: len(run.notes()) == 2 and run.notes(), what="the jobs to start")
    pids = {*worker.executors(), *(note.pid for note in notes)}

    worker.kill()

    wait_until(lambda: not any(alive(pid) for pid in pids), 1, "the executors to die")


def test_executors_that_wait_for_a_job_are_gone_with_their_worker_too(world: World):
    worker = world.worker()
    world.finish(world.submit(4, s=0.1))
    pids = worker.executors()
    assert pids

    worker.kill()

    wait_until(lambda: not any(alive(pid) for pid in pids), 1, "the executors to die")


def test_a_killed_executor_costs_an_attempt_of_the_job_it_ran_and_of_no_other(world: World):
    world.worker(slots=1)
    run = world.submit(300, each=lambda n: {"s": 3 if n == 100 else 0.001})
    (note,) = wait_until(lambda: run.starts(100), what="the long job to start")

    os.kill(note.pid, signal.SIGKILL)

    records = world.finish(run)
    assert {record.index for record in records if record.attempt != 1} == {100}
    assert records[100].attempt == 2
    assert b"SIGKILL" in world.redis.hget(f"rq:job:{records[100].job_id}", "cb_lost")
    assert all(len(run.starts(n)) == 1 for n in range(300) if n != 100)


def test_executors_killed_again_and_again_cost_no_job_but_their_own(world: World):
    worker = world.worker()
    run = world.submit(200, s=0.02, max_attempts=50)

    for _ in range(6):
        before = len(run.notes())
        wait_until(
            lambda before=before: len(run.notes()) > before or world.complete(run), what="jobs to go on"
        )
        signal_all(worker.executors()[:1], signal.SIGKILL)

    records = world.finish(run)
    assert {record.state for record in records} == {"finished"}
    assert sum(record.attempt - 1 for record in records) <= 6


@pytest.mark.parametrize("what", ["executor", "worker"])
def test_poison_among_a_thousand_good_jobs_is_set_aside_and_nothing_else_is(world: World, what: str):
    workers = [*world.pair(lease_s=10)]  # so long that no lease runs out: what is lost here is lost by poison
    poison = {333: {"what": what}}

    run = world.submit(GOOD + 1, "worker.mixed", each=lambda n: poison.get(n, {}))

    def complete() -> bool:
        for dead in [worker for worker in workers if not worker.alive]:
            workers.remove(dead)
            workers.append(world.replace(dead, lease_s=10))
        return world.complete(run)

    wait_until(complete, 90, "the ensemble to end")
    records = world.finish(run)
    assert {record.index for record in records if record.state == "failed"} == {333}
    assert records[333].attempt == len(run.starts(333)) == 3, records[333]
    assert "attempt 3 of 3: set aside" in records[333].error
    assert ("SIGKILL" if what == "executor" else "was lost") in records[333].error


def test_a_job_beyond_its_memory_fails_with_the_reason_and_costs_no_other_an_attempt(world: World):
    digest = payload_with(world, "payload-memory", "max_rss_mb = 200\n")
    world.worker(slots=1)
    before = world.submit(50, s=0.01, digest=digest)
    hungry = world.submit(1, "worker.fill_memory", digest=digest)
    behind = world.submit(50, s=0.01, digest=digest)

    records = world.finish(behind) + world.records(before)

    (record,) = world.records(hungry)
    assert record.state == "failed"
    assert "MiB of memory, more than 200 MiB" in record.error
    assert record.attempt == len(hungry.notes()) == 1
    assert {(other.state, other.attempt) for other in records} == {("finished", 1)}


def test_what_a_job_has_started_dies_with_its_worker(world: World):
    worker = world.worker()
    run = world.submit(1, "worker.forget_ourselves")
    wait_until(run.notes, what="the job to start")
    children = [int(pid) for pid in Path(f"{run.notes_file}.children").read_text().split()]

    worker.kill()

    wait_until(lambda: not any(alive(pid) for pid in children), 1, "the job's own processes to die")
