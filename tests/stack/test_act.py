"""Steps that fail in the middle: what was begun is undone, whatever else fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudburst.commands.command import Command
from cloudburst.hosts.local import LocalHost
from cloudburst.hosts.process import Process
from cloudburst.stack import records
from cloudburst.stack.act import Act
from cloudburst.stack.facts import Facts, ServiceFacts
from cloudburst.stack.paths import Paths
from cloudburst.stack.plan import Plan
from cloudburst.stack.records import Record
from cloudburst.stack.service import Service


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path / "stack")
    paths.root.mkdir()
    paths.make()
    return paths


@pytest.fixture
def pids() -> Iterator[list[int]]:
    """Of the processes that tests start; none of them may be left."""
    found: list[int] = []
    yield found
    left = [one for pid in found if (one := Process.of(pid))]
    for process in left:
        os.kill(process.pid, 9)
    assert left == []


def sleeping(name: str, pids: list[int]) -> Service:
    def ready(pid: int) -> bool:
        pids.append(pid)
        return True

    return Service(name=name, command=Command(("sleep", "300")), settings={}, ready=ready)


def spoil(paths: Paths, service: str) -> None:
    """Its record can neither be written nor removed."""
    (paths.record(service) / "in-the-way").mkdir(parents=True)


ABSENT = Facts({name: ServiceFacts(name, "absent") for name in records.SERVICES}, complete=False)


def test_what_was_started_is_stopped_though_one_of_it_makes_trouble(paths: Paths, pids: list[int]) -> None:
    act = Act(LocalHost(os.environ), paths, lambda _line: None, lambda _s: None)
    services = (sleeping("queue", pids), sleeping("filestore", pids), sleeping("worker", pids))
    spoil(paths, "worker")

    with pytest.raises(IsADirectoryError) as caught:
        act.carry_out(Plan((), (), services, {}), ABSENT)

    assert len(pids) == 2
    assert any(note.startswith("worker may still run: ") for note in caught.value.__notes__)
    assert not paths.record("queue").exists()


def test_services_are_stopped_though_one_of_them_cannot_be(paths: Paths, pids: list[int]) -> None:
    host = LocalHost(os.environ)
    act = Act(host, paths, lambda _line: None, lambda _s: None)
    there = []
    for name in ("worker", "filestore", "queue"):
        process = host.start(Command(("sleep", "300")), paths.log(name))
        pids.append(process.pid)
        there.append(Record(name, process, 5))
    spoil(paths, "worker")

    with pytest.raises(IsADirectoryError):
        act.stop_all(there)
