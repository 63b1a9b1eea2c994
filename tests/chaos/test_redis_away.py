"""A Redis that is killed, that loses the end of its file, or that is away while jobs end."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.chaos.proxy import BEFORE
from tests.chaos.world import LEASE_S, World
from tests.wait import wait_until

pytestmark = pytest.mark.slow


def append_only_file(world: World) -> Path:
    """The file that Redis appends to: one before version 7, the last part of several from then on."""
    directory = world.stack.redis_server.directory
    parts = sorted((directory / "appendonlydir").glob("*.incr.aof"), key=lambda part: part.stat().st_mtime)
    return parts[-1] if parts else directory / "appendonly.aof"


@pytest.mark.parametrize("seed", [1])
def test_a_redis_killed_again_and_again_loses_and_doubles_nothing(world: World, seed: int):
    dice = random.Random(seed)
    world.pair()
    run = world.submit(500, s=0.01, points=1, max_attempts=20)

    for _ in range(4):
        before = len(run.notes())
        wait_until(
            lambda before=before: len(run.notes()) > before or world.complete(run), 20, "jobs to go on"
        )
        time.sleep(dice.uniform(0.1, 1.0))  # when the fault comes is what the seed decides
        world.stack.redis_server.kill()
        time.sleep(dice.uniform(0.0, 1.0))
        world.stack.redis_server.start()

    records = world.finish(run, 90)
    assert {record.state for record in records} == {"finished"}


@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_synced_survives_a_cut_file_and_the_rest_is_run_again_once(world: World, seed: int):
    dice = random.Random(seed)
    world.pair()
    run = world.submit(300, s=0.01, points=1, max_attempts=20)
    server = world.stack.redis_server

    for _ in range(2):
        before = len(run.notes())
        wait_until(
            lambda before=before: len(run.notes()) > before + 20 or world.complete(run), 20, "some records"
        )
        # Nothing is answered before it is synced from here on: what is acknowledged now is in the file.
        world.redis.config_set("appendfsync", "always")
        acknowledged = world.redis.xrange(f"cb:ens:{run.ensemble}:results")
        synced = append_only_file(world).stat().st_size
        # The power fails later; what came after that moment was not synced, or only in part.
        world.redis.config_set("appendfsync", "everysec")
        time.sleep(dice.uniform(0.2, 0.8))
        server.kill()
        file = append_only_file(world)
        with file.open("r+b") as tail:
            tail.truncate(dice.randint(synced, file.stat().st_size))
        server.start()

        assert world.redis.xrange(f"cb:ens:{run.ensemble}:results")[: len(acknowledged)] == acknowledged

    records = world.finish(run, 90)
    assert {record.state for record in records} == {"finished"}


@pytest.mark.parametrize("away_s", [3, 3 * LEASE_S])
def test_jobs_that_end_while_redis_is_away_are_recorded_and_not_run_again(world: World, away_s: int):
    world.pair()
    run = world.submit(4, s=1, points=3)
    wait_until(lambda: len(run.notes()) == 4, what="the jobs to start")

    world.stack.redis_server.kill()
    time.sleep(away_s)  # the fault itself
    world.stack.redis_server.start()

    records = world.finish(run, 30)
    assert [(record.state, record.attempt) for record in records] == [("finished", 1)] * 4
    assert [len(run.starts(n)) for n in range(4)] == [1] * 4


def test_a_finish_that_redis_never_got_is_repeated_and_its_job_not_run_again(world: World):
    worker = world.worker()
    world.worker(slots=1)
    held = worker.proxy.hold("finish", BEFORE)
    run = world.submit(2, each=lambda n: {"s": 0.2})
    held.wait()

    world.stack.redis_server.kill()
    held.release(lost=True)
    time.sleep(3)  # the fault itself
    world.stack.redis_server.start()

    records = world.finish(run, 30)
    assert [(record.state, record.attempt) for record in records] == [("finished", 1)] * 2
    assert [len(run.starts(n)) for n in range(2)] == [1] * 2


def test_a_redis_that_hangs_is_as_good_as_away(world: World):
    world.pair()
    run = world.submit(4, s=1)
    wait_until(lambda: len(run.notes()) == 4, what="the jobs to start")

    world.stack.redis_server.pause()
    time.sleep(2 * LEASE_S)
    world.stack.redis_server.resume()

    records = world.finish(run, 30)
    assert [(record.state, record.attempt) for record in records] == [("finished", 1)] * 4
