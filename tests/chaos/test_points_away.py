"""A database that refuses, fails, hangs or is gone: no job is finished before its points are safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cloudburst.model import PointsWaiting
from cloudburst.rqwire.workers import workers
from tests.chaos.proxy import AFTER
from tests.chaos.world import Run, Worker, World
from tests.points.misbehaving import Misbehaving, Write
from tests.wait import wait_until

pytestmark = pytest.mark.slow

JOBS = 60
POINTS = 3


@pytest.fixture
def database() -> Iterator[Misbehaving]:
    """Stands before the real one, and lets through what it is told to."""
    misbehaving = Misbehaving()
    yield misbehaving
    misbehaving.end()


def real(world: World) -> Callable[[Write], None]:
    """Behave as the real database behind it does."""
    url = f"http://127.0.0.1:{world.stack.points_port}"

    def behave(write: Write) -> None:
        status, body = write.pass_on(url)
        write.reply(status, body)

    return behave


def unsafe(world: World, run: Run, worker: Worker) -> set[int]:
    """Finished jobs some of whose points are neither in the database nor in the worker's spool."""
    finished = {record.index for record in world.records(run) if record.state == "finished"}
    spool = world.directory / worker.node / "spool"
    # The spool first: what leaves it has arrived.
    spooled = "".join(path.read_text() for path in sorted(spool.glob("*.lp")))
    stored = set(world.points(run.measurement))
    kept = {line.rpartition(" ")[2] for line in spooled.splitlines() if line.startswith(run.measurement)}
    kept |= {line.partition('"time":')[2].partition(",")[0] for line in stored}
    return {n for n in finished if any(str(n * 1000 + k + 1) not in kept for k in range(run.points))}


def points_waiting(world: World) -> PointsWaiting | None:
    """What the worker says of them."""
    return next((one.points_waiting for one in workers(world.redis)), None)


def spooled(world: World, worker: Worker) -> bool:
    return any((world.directory / worker.node / "spool").glob("*.lp"))


FAULTS: dict[str, Callable[[Write], None]] = {
    "503": lambda write: write.reply(503, b'{"message": "busy"}', Retry_After="1"),
    "hangs": lambda write: write.hang(),
    "cut": lambda write: write.cut(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_points_are_on_disk_while_the_database_is_away_and_delivered_later(
    world: World, database, fault: str
):
    database.behave = FAULTS[fault]
    worker = world.worker(INFLUX_URL=database.url)
    run = world.submit(JOBS, points=POINTS)

    while not world.complete(run):
        wait_until(lambda: not unsafe(world, run, worker), 1, "each finished job's points to be safe")
    assert not unsafe(world, run, worker)
    assert world.points(run.measurement) == []
    assert spooled(world, worker)
    waiting = wait_until(lambda: points_waiting(world), 10, "the worker to tell that points wait")
    assert waiting.reason
    assert 0 < waiting.points <= 2 * JOBS * POINTS
    database.over.set()
    database.behave = real(world)

    wait_until(lambda: not world.missing_points(run), 40, "the spool to be delivered")
    wait_until(lambda: not points_waiting(world), 10, "the worker to tell that none wait")
    assert {record.attempt for record in world.finish(run)} == {1}


def test_a_database_that_is_not_there_loses_no_points_whatever_happens_to_the_worker(world: World):
    world.kill_points()
    worker = world.worker(lease_s=2)
    # Killed the moment its first jobs are final: their points are on its disk, and nowhere else.
    rule = worker.proxy.when("finish", AFTER, lambda call: worker.kill())
    run = world.submit(JOBS, points=POINTS)
    assert rule.seen.wait(30)
    assert world.records(run)

    world.stack.start_points()
    assert not unsafe(world, run, worker)
    world.replace(worker, lease_s=2)

    assert {record.state for record in world.finish(run)} == {"finished"}


def test_a_job_whose_points_are_refused_is_failed_and_never_finished(world: World, database):
    def behave(write: Write) -> None:
        if b"refuse-me" in write.body:
            write.reply(400, b'{"message": "unable to parse this"}')
        else:
            real(world)(write)

    database.behave = behave
    world.worker(INFLUX_URL=database.url)
    run = world.submit(30, points=POINTS, each=lambda n: {"measurement": "refuse-me"} if n % 10 == 3 else {})

    records = world.finish(run)

    assert {record.index for record in records if record.state == "failed"} == {3, 13, 23}
    assert all("unable to parse this" in record.error for record in records if record.state == "failed")


def test_a_database_that_fails_at_random_gets_every_point_once(world: World, database):
    answers = iter([503, 0, 204, 500, 429, 204, 0, 503, 503, 204] * 1000)
    pass_on = real(world)

    def behave(write: Write) -> None:
        status = next(answers)
        if status == 204:
            pass_on(write)
        elif status == 0:  # it has the points, and its answer is lost
            write.pass_on(f"http://127.0.0.1:{world.stack.points_port}")
            write.cut()
        else:
            write.reply(status)

    database.behave = behave
    world.worker(INFLUX_URL=database.url)

    run = world.submit(200, s=0.005, points=POINTS)

    assert {record.state for record in world.finish(run)} == {"finished"}
