"""A node whose disk is full: it makes room, leaves jobs to others, and says so when nobody has room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wait import wait_until
from tests.worker.conftest import MiniStack

pytestmark = pytest.mark.slow

MODULE = """
import time
from pathlib import Path

def size(params):
    return len((Path(__file__).parent / "data.bin").read_bytes())

def hold(params):
    while not Path(params["until"]).exists():
        time.sleep(0.02)
"""
DATA_BYTES = 2_000_000


@pytest.fixture
def services(tmp_path: Path) -> Iterator[MiniStack]:
    stack = MiniStack(tmp_path / "stack")
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def payload(services: MiniStack, name: str) -> str:
    """The digest of a payload that takes its size twice: as an archive, and unpacked."""
    directory = services.directory / name
    directory.mkdir()
    (directory / "model.py").write_text(MODULE)
    (directory / "Pipfile").write_text("[packages]\n")
    (directory / "data.bin").write_bytes(os.urandom(DATA_BYTES))
    return services.upload(directory)


def worker(services: MiniStack, name: str, state: Path) -> subprocess.Popen[bytes]:
    return services.worker(slots=1, state=name, CLOUDBURST_STATE_DIR=str(state))


def test_its_jobs_run_on_a_node_that_has_room(services, small_disk):
    digest = payload(services, "large")
    worker(services, "roomy", services.directory / "roomy")
    worker(services, "full", small_disk(DATA_BYTES))  # whose first heartbeat has counted both

    ensemble = services.submit("model.hold", *[{"until": str(services.directory / "go")}] * 4, digest=digest)
    wait_until(lambda: "no room" in services.log("worker-full"), 30, "the full node to say so")
    (services.directory / "go").touch()
    records = services.wait(ensemble)

    assert [(record.state, record.node) for record in records] == [("finished", "roomy")] * 4


def test_the_client_learns_which_disk_lacks_how_much_when_no_node_has_room(services, small_disk):
    digest = payload(services, "large")
    for name in ("full-1", "full-2"):
        worker(services, name, small_disk(DATA_BYTES))

    ensemble = services.submit("model.size", *[{}] * 4, digest=digest)
    records = services.wait(ensemble)

    assert {record.state for record in records} == {"failed"}
    status = services.ensembles.status(ensemble)
    assert "no room for the payload on full-" in status.error
    assert "make room there" in status.error


def test_what_is_not_in_use_goes_first(services, small_disk):
    first, second = payload(services, "first"), payload(services, "second")
    process = worker(services, "small", small_disk(5 * DATA_BYTES // 2))

    for digest in (first, second, first):
        records = services.run("model.size", {}, digest=digest)
        assert [record.value for record in records] == [DATA_BYTES]

    assert "removing what is not in use" in services.log("worker-small")
    assert process.poll() is None
