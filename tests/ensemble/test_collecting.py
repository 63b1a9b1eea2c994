"""Results are collected before a stack ends; what its keeper says, the test says."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pandas
import pytest

from cloudburst import Stack
from cloudburst.ensemble.collecting import Collecting, watch
from cloudburst.ensemble.connection import Connection
from cloudburst.ensemble.progress import follow
from cloudburst.model import EnsembleSpec
from cloudburst.rqwire import ending
from cloudburst.rqwire.ending import Announcement
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Leases, Outcome
from tests.conftest import RedisServer
from tests.wait import wait_until


def say(server: RedisServer, stage: ending.Stage, name: str = "e1") -> None:
    ending.announce(server.client(), Announcement(stage, name=name, said_at=time.time()))


def run(server: RedisServer, jobs: int, ended: int) -> str:
    ensembles = Ensembles(server.client())
    ensemble = ensembles.create(EnsembleSpec("e", "worker.work", ""))
    ensembles.append(ensemble, "worker.work", 0, [b'{"a":1}'] * jobs)
    ensembles.seal(ensemble)
    leases = Leases(server.client(), queue="default", worker="w", node="n", lease_s=600)
    leases.finish([Outcome(one, "finished", time.time(), 1.0, value=b"7") for one in leases.claim(ended)])
    return ensemble


def collected(server: RedisServer) -> list[str]:
    return [one.collected for one in ending.watchers(server.client()).values() if one.there]


@pytest.fixture
def queue(redis_server: RedisServer) -> Connection:
    return Connection(redis_server.url_of("client"))


def test_done_ensembles_are_saved_at_once_and_all_before_the_end(
    stack: Stack, queue: Connection, redis_server: RedisServer, tmp_path: Path
) -> None:
    done, half = run(redis_server, 2, 2), run(redis_server, 3, 1)
    say(redis_server, "watching", "")
    told: list[str] = []
    folder = tmp_path / "saved"

    def work() -> None:
        with Collecting(queue, 0.05) as collecting:
            watch(stack, collecting, folder, told.append, 0.05)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    wait_until((folder / f"{done}.parquet").exists, 30, "the ensemble that is done")
    assert not (folder / f"{half}.parquet").exists()
    assert collected(redis_server) == [""]
    say(redis_server, "collecting")
    wait_until(lambda: collected(redis_server) == ["e1"], 30, "all to be collected")
    say(redis_server, "removing")
    thread.join(30)

    assert not thread.is_alive()
    assert len(pandas.read_parquet(folder / f"{half}.parquet")) == 1
    assert told[-2] == f"all results are in {folder}"
    assert redis_server.refused() == set()


def test_an_end_that_is_announced_during_a_save_waits_for_the_rest(
    stack: Stack, queue: Connection, redis_server: RedisServer, tmp_path: Path
) -> None:
    done, half = run(redis_server, 2, 2), run(redis_server, 3, 1)
    say(redis_server, "watching", "")
    saved: list[bool] = []

    with Collecting(queue, 0.05) as collecting:

        def hear(line: str) -> None:
            if f"{done}.parquet" in line:
                say(redis_server, "collecting")
                wait_until(lambda: collecting.ends, 30, "the end to be heard of")
            elif line.startswith("all results"):
                saved.append((tmp_path / f"{half}.parquet").exists())
                say(redis_server, "removing")

        watch(stack, collecting, tmp_path, hear, 0.05)

    assert saved == [True]


def test_a_client_that_has_everything_is_content_with_a_stack_that_is_gone(
    stack: Stack, queue: Connection, redis_server: RedisServer, tmp_path: Path
) -> None:
    say(redis_server, "collecting")
    queue._patience_s = stack._queue._patience_s = 0.1

    with Collecting(queue, 0.05) as collecting:
        collecting.collected()
        redis_server.kill()
        watch(stack, collecting, tmp_path, lambda _line: None, 0.05, gone_s=0.5)


def test_following_ends_with_the_stack(
    stack: Stack, queue: Connection, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble = run(redis_server, 3, 1)
    say(redis_server, "collecting")

    with Collecting(queue, 0.05) as collecting:
        status = follow(stack.ensemble(ensemble), collecting=collecting)
        assert collected(redis_server) == [""]

    assert (status.ended, status.total) == (1, 3)
    assert collected(redis_server) == ["e1"], "the block has ended"
    assert "2 jobs of" in capsys.readouterr().err


def test_a_block_that_fails_has_collected_nothing(queue: Connection, redis_server: RedisServer) -> None:
    say(redis_server, "collecting")

    with pytest.raises(KeyError), Collecting(queue, 0.05):
        raise KeyError

    assert collected(redis_server) == []


def test_a_stack_without_a_keeper_is_told_nothing(queue: Connection, redis_server: RedisServer) -> None:
    with Collecting(queue, 0.05) as collecting:
        assert collecting.announcement is None
        assert not collecting.ends

    assert not redis_server.client().exists(ending.WATCHERS)
