"""Workers that are stopped for longer than their lease, and workers whose clocks are wrong."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.proxy import BEFORE
from tests.chaos.world import LEASE_S, World
from tests.wait import wait_until

pytestmark = pytest.mark.slow


def pause_for_two_leases(world, paused, survivor, run, lease_s=LEASE_S):
    """The job is run elsewhere meanwhile; the records that there are before the worker goes on."""
    paused.pause()
    stopped_at = time.monotonic()
    survivor.resume()
    wait_until(lambda: world.complete(run), 20, "the job to be run elsewhere")
    wait_until(lambda: time.monotonic() > stopped_at + 2 * lease_s, 2 * lease_s + 1, "two leases to pass")
    before = world.redis.xrange(f"cb:ens:{run.ensemble}:results")
    paused.resume()
    return before


def test_a_worker_paused_while_its_job_runs_records_nothing_of_it(world: World):
    survivor = world.idle_survivor()
    paused = world.worker(slots=1)
    run = world.submit(1, s=1)
    wait_until(run.notes, what="the job to start")

    # The executor goes on and ends the job; only its worker does not hear of it.
    before = pause_for_two_leases(world, paused, survivor, run)

    wait_until(lambda: "its lease" in world.log(paused), what="the paused worker to notice")
    world.finish(run)
    (record,) = world.records(run)
    assert (record.node, record.attempt) == (survivor.node, 2)
    assert world.redis.xrange(f"cb:ens:{run.ensemble}:results") == before


def test_a_finish_that_arrives_after_twice_the_lease_is_refused(world: World):
    lease_s = 2  # two of them are less than the 6 s for which a worker waits for an answer
    survivor = world.idle_survivor(lease_s)
    paused = world.worker(slots=1, lease_s=lease_s)
    held = paused.proxy.hold("finish", BEFORE)
    run = world.submit(1)
    call = held.wait()

    # The whole machine stands still, with the finish of its job on the way.
    before = pause_for_two_leases(world, paused, survivor, run, lease_s)
    held.release()

    wait_until(lambda: call.reply, what="the answer to the late finish")
    assert b"stale" in call.reply
    assert world.redis.xrange(f"cb:ens:{run.ensemble}:results") == before
    (record,) = world.finish(run)
    assert (record.node, record.attempt) == (survivor.node, 2)
    # And it is a worker like any other afterwards.
    survivor.pause()
    assert [r.node for r in world.finish(world.submit(1))] == [paused.node]


def test_workers_paused_in_turn_lose_and_double_nothing(world: World):
    workers = [*world.pair(lease_s=2), world.worker(lease_s=2)]
    run = world.submit(300, s=0.03, points=2, max_attempts=20)

    turns = itertools.cycle(workers)
    for _ in range(4):
        worker = next(turns)
        worker.pause()
        time.sleep(4 if not world.complete(run) else 0)  # twice the lease: the fault itself
        worker.resume()

    assert {record.state for record in world.finish(run)} == {"finished"}


# -- clocks ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that, preloaded, puts a process's wall clock off by CLOCK_OFFSET_S."""
    if shutil.which("cc") is None:
        message = "no C compiler (cc): clocks that are apart are not tested"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.fixture
def rq_info(world: World) -> Iterator[list[int]]:
    """Stock `rq info` again and again, which cleans up registries each time; its exit codes so far."""
    rq = shutil.which("rq", path=str(Path(sys.executable).parent))
    assert rq is not None
    codes: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            argv = [rq, "info", "--url", world.stack.redis_server.url]
            codes.append(subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode)

    thread = threading.Thread(target=look)
    thread.start()
    yield codes
    over.set()
    thread.join()


@pytest.mark.slow
def test_clocks_ten_minutes_apart_four_reapers_and_stock_rq_info_harm_nothing(
    world: World, wrong_clock, rq_info
):
    skewed = [
        world.start_worker(
            lease_s=2,
            LD_PRELOAD=str(wrong_clock),
            CLOCK_OFFSET_S=offset,
            CLOUDBURST_JOB_VARIABLES="LD_PRELOAD,CLOCK_OFFSET_S",
        )
        for offset in ("300", "-300", "300", "-300")
    ]
    wait_until(lambda: all(worker.name for worker in skewed), 30, "the workers to register")
    run = world.submit(400, s=0.03, points=1, max_attempts=10)
    wait_until(lambda: len(run.notes()) > 40, what="jobs to run")

    skewed[0].kill()
    skewed[1].pause()
    wait_until(lambda: world.complete(run), 60, "the ensemble to end")
    skewed[1].resume()

    records = world.finish(run)
    assert {record.state for record in records} == {"finished"}
    clocks = [note.at - time.time() for note in run.notes()]
    assert min(clocks) < -200
    assert max(clocks) > 200
    # A lease that ran by the workers' clocks would be lost at once, or never.
    assert sum(record.attempt > 1 for record in records) <= 100
    assert set(rq_info) == {0}
