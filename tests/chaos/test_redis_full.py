"""A Redis whose memory or whose disk is full: nothing new is accepted, nothing that was accepted is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudburst.errors import QueueError
from cloudburst.model import EnsembleSpec
from cloudburst.rqwire import connection
from cloudburst.rqwire.ensembles import Ensembles, encode_description
from cloudburst.rqwire.ledger import Ledger
from cloudburst.rqwire.readings import read
from cloudburst.rqwire.workers import workers
from tests.chaos.world import World
from tests.conftest import RedisServer
from tests.wait import wait_until
from tests.worker import payload
from tests.worker.conftest import MiniStack

MB = 1 << 20


@pytest.fixture
def crowded(world: World) -> Iterator[World]:
    """A world that is given back with room."""
    yield world
    world.redis.config_set("maxmemory", 0)


def fill(world: World) -> None:
    """What it has is more than it may have from now on."""
    world.redis.config_set("maxmemory", 1)


def test_with_its_memory_full_accepted_jobs_run_and_are_recorded_even_a_lost_workers(crowded: World):
    first, second = crowded.pair()
    run = crowded.submit(40, s=0.2, points=1)
    wait_until(lambda: {note.worker for note in run.notes()} == {first.pid, second.pid}, 20, "both to start")
    fill(crowded)

    first.kill()
    records = crowded.finish(run, 90)

    assert {record.state for record in records} == {"finished"}
    # Nobody's lease has run out but that of the killed worker, and the living one is still in the list.
    again = {record.index for record in records if record.attempt > 1}
    assert {note.worker for note in run.notes() if note.n in again and note.attempt == 1} <= {first.pid}
    assert second.pid in {worker.pid for worker in workers(crowded.redis)}
    assert "used memory" not in crowded.log(second)


def test_with_its_memory_full_a_worker_that_waits_takes_the_jobs_of_a_lost_one(crowded: World):
    first, second = crowded.pair()
    run = crowded.submit(1, s=2)
    (note,) = wait_until(run.notes, 20, "the job to start")
    fill(crowded)

    next(worker for worker in (first, second) if worker.pid == note.worker).kill()

    (record,) = crowded.finish(run, 60)
    assert record.attempt == 2


def test_with_its_memory_full_failures_and_cancelled_jobs_are_recorded_too(crowded: World):
    run = crowded.submit(2, each=lambda n: {"fail": True})
    waiting = crowded.submit(20, s=60)
    fill(crowded)

    crowded.worker()

    wait_until(lambda: crowded.complete(run), 60, "the failures")
    assert crowded.stack.ensembles.cancel(waiting.ensemble) > 0
    assert {record.state for record in crowded.finish(waiting)} == {"cancelled"}
    assert [record.state for record in crowded.records(run)] == ["failed"] * 2


def test_with_its_memory_full_a_client_learns_what_to_do_and_goes_on_when_there_is_room(crowded: World):
    fill(crowded)

    with (
        pytest.raises(QueueError, match=r"no memory left and accepts no new jobs.*CLOUDBURST_QUEUE_MEMORY"),
        connection.explained(crowded.stack.redis_server.url),
    ):
        crowded.submit(1)

    crowded.redis.config_set("maxmemory", 0)
    crowded.worker()
    crowded.finish(crowded.submit(4))


@pytest.fixture
def disk(small_disk: Callable[[int], Path]) -> Path:
    return small_disk(4 * MB)


@pytest.fixture
def stack(tmp_path: Path, disk: Path) -> Iterator[MiniStack]:
    """Services whose Redis has a small disk of its own."""
    made = MiniStack(tmp_path / "stack")
    made.redis_server = RedisServer(disk)
    payload.write(made.directory / "payload")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_on_a_full_disk_nothing_is_accepted_and_nothing_lost_and_all_goes_on_when_there_is_room(
    stack: MiniStack, disk: Path
):
    worker = stack.worker(slots=2)
    go = stack.directory / "go"
    running = stack.submit("worker.wait_for", *[{"path": str(go)}] * 8)
    wait_until(lambda: stack.ensembles.status(running).running == 2, 30, "two jobs to run")

    ballast = disk / "ballast"
    accepted = submit_until_refused(stack, ballast)
    _, server = read(stack.redis, "default")
    go.touch()
    wait_until(lambda: "MISCONF" in stack.log("worker-state"), 30, "the worker to be refused")
    assert not server.aof_ok
    assert stack.ensembles.status(running).ended == 0

    ballast.unlink()
    records = stack.wait(running)

    assert [(record.state, record.attempt) for record in records] == [("finished", 1)] * 8
    assert worker.poll() is None
    # and what was accepted is on the disk by now
    wait_until(lambda: read(stack.redis, "default")[1].aof_ok, 20, "Redis to write again")
    stack.redis.config_set("appendfsync", "always")
    stack.redis.set("cb:stats:marker", "1")
    stack.redis_server.kill()
    stack.redis_server.start()
    assert {ensemble for ensemble in accepted if Ensembles(stack.redis).status(ensemble)} == set(accepted)
    assert Ledger(stack.redis).everything().breach_count == 0


def submit_until_refused(stack: MiniStack, ballast: Path) -> list[str]:
    """Fill the disk, and submit until a client is told; the ensembles that were accepted."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    accepted: list[str] = []
    with pytest.raises(QueueError, match=r"cannot write to its disk.*make room"):
        submit(stack, accepted)
    return accepted


def submit(stack: MiniStack, accepted: list[str]) -> None:
    with connection.explained(stack.redis_server.url):
        for _ in range(1000):
            ensemble = stack.ensembles.create(EnsembleSpec("more", "worker.work", "d" * 64))
            stack.ensembles.append(ensemble, "worker.work", 0, [encode_description({"x": "x" * 9000}, 0)])
            accepted.append(ensemble)
