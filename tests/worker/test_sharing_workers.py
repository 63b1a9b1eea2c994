"""Several workers with state directories of their own, as on several nodes: one builds, the others fetch."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudburst import names
from cloudburst.model import JobRecord
from tests.wait import wait_until
from tests.worker import payload
from tests.worker.conftest import MiniStack
from tests.worker.package_index import PackageIndex
from tests.worker.stalling import StallingRelay

pytestmark = pytest.mark.slow

FILES = 1500
"""Of the package ``ocean``: enough that unpacking it can be interrupted."""

CODE = """
import os, time
from pathlib import Path
import {package}

def meet(params):
    "Wait until so many workers are here."
    folder = Path(params["folder"])
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < params["n"]:
        assert time.monotonic() < deadline, "the others did not come"
        time.sleep(0.02)
    return {{"version": {package}.VERSION}}

def count(params):
    return len(list(Path({package}.__file__).parent.glob("part_*.py")))
"""


class Swarm:
    """Services, a package index, and workers that are as if on nodes of their own."""

    def __init__(self, stack: MiniStack, index: PackageIndex) -> None:
        self.stack = stack
        self.index = index
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def payload(self, name: str, package: str = "tide", more: str = "") -> str:
        """Upload one; its digest."""
        directory = self.stack.directory / name
        files = {"worker.py": CODE.format(package=package) + more}
        payload.write(directory, files | {"Pipfile": f'[packages]\n{package} = "*"\n'})
        return self.stack.upload(directory)

    def worker(self, node: str, **settings: str) -> subprocess.Popen[bytes]:
        settings = {"PIP_INDEX_URL": self.index.url, "PIP_FIND_LINKS": ""} | settings
        self.workers[node] = self.stack.worker(state=node, **settings)
        return self.workers[node]

    def stop(self) -> None:
        for worker in self.workers.values():
            worker.terminate()
        for worker in self.workers.values():
            worker.wait(20)
        self.workers.clear()

    def meet(self, digest: str, folder: Path, n: int = 1) -> list[JobRecord]:
        """Run so many jobs, all at the same time."""
        folder.mkdir()
        job = {"folder": str(folder), "n": n}
        return self.stack.run("worker.meet", *[job] * n, digest=digest)

    def environments(self, node: str) -> Path:
        return self.stack.directory / node / "environments"

    def has_stored(self, node: str) -> bool:
        """Whether what that node has built is in the file store."""
        return "is in the file store" in self.stack.log(f"worker-{node}")

    def notes(self, node: str, words: str) -> bool:
        return words in self.stack.log(f"worker-{node}")

    def wheels(self) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in self.index.requests if path.endswith(".whl"))


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    index = PackageIndex(tmp_path_factory.mktemp("wheels"))
    index.wheels.append(_ocean(tmp_path_factory.mktemp("ocean")))
    stack = MiniStack(tmp_path_factory.mktemp("stack"))
    try:
        stack.start()
        yield Swarm(stack, index)
    finally:
        stack.stop()
        index.close()


@pytest.fixture
def swarm(services: Swarm) -> Iterator[Swarm]:
    services.index.requests.clear()
    yield services
    services.index.answering.set()
    services.stop()


def test_three_workers_resolve_once_install_once_and_run_the_same_versions(swarm: Swarm, tmp_path):
    digest = swarm.payload("once")
    nodes = ["a-1", "a-2", "a-3"]
    for node in nodes:
        swarm.worker(node)

    records = swarm.meet(digest, tmp_path / "first", n=3)

    assert {record.node for record in records} == set(nodes)
    assert [record.value for record in records] == [{"version": "2.0"}] * 3
    # Once for pipenv, which reads from it what else is needed, and once to install it.
    assert all(swarm.wheels().count(wheel) <= 2 for wheel in swarm.wheels())
    assert sum(swarm.notes(node, "installing 2 packages") for node in nodes) == 1
    assert sum(swarm.notes(node, "resolving the Pipfile") for node in nodes) == 1

    # The second time, here and on nodes that have nothing yet, no index is needed.
    swarm.stop()
    swarm.index.requests.clear()
    for node in ("a-1", "a-4"):
        swarm.worker(node)
    again = swarm.meet(digest, tmp_path / "second", n=2)
    changed = swarm.meet(swarm.payload("once-changed", more="# other code\n"), tmp_path / "third", n=2)

    assert [record.value for record in again + changed] == [{"version": "2.0"}] * 4
    assert swarm.index.requests == []


def test_when_the_builder_is_killed_another_takes_over(swarm: Swarm, tmp_path):
    digest = swarm.payload("killed", package="rainfall")
    swarm.index.answering.clear()
    builder = swarm.worker("b-1")
    ensemble = swarm.stack.submit("worker.meet", {"folder": str(tmp_path), "n": 1}, digest=digest)
    wait_until(lambda: swarm.index.requests, 30, "the builder to ask for packages")
    swarm.worker("b-2")
    wait_until(lambda: swarm.notes("b-2", "b-1 is making the Pipfile.lock; waiting"), 30, "the other to wait")

    builder.kill()
    swarm.index.answering.set()

    (record,) = swarm.stack.wait(ensemble)
    assert (record.node, record.value) == ("b-2", {"version": "1.1"})


def test_a_payload_that_cannot_be_built_does_not_keep_others_from_running(swarm: Swarm, tmp_path):
    directory = swarm.stack.directory / "hopeless"
    payload.write(directory, {"Pipfile": '[packages]\nno-such-package = "*"\n'})
    hopeless = swarm.stack.upload(directory)
    workers = [swarm.worker("c-1"), swarm.worker("c-2")]

    failed = swarm.stack.submit("worker.add", {"a": 1, "b": 2}, digest=hopeless)
    (record,) = swarm.meet(swarm.payload("once"), tmp_path / "good")

    assert record.value == {"version": "2.0"}
    (failure,) = swarm.stack.wait(failed)
    assert failure.state == "failed"
    assert "no-such-package" in failure.error
    assert [worker.poll() for worker in workers] == [None, None]


class TestKilledWhileFetching:
    @pytest.fixture
    def digest(self, swarm: Swarm, tmp_path: Path) -> str:
        """A payload whose environment is in the file store, and on no node that the tests use."""
        digest = swarm.payload("ocean", package="ocean")
        swarm.worker("builder")
        swarm.meet(digest, tmp_path / "built")
        wait_until(lambda: swarm.has_stored("builder"), 30, "the environment to be stored")
        swarm.stop()
        return digest

    def kill_when(self, swarm: Swarm, digest: str, node: str, moment: Callable[[], object], **settings: str):
        worker = swarm.worker(node, **settings)
        ensemble = swarm.stack.submit("worker.count", {}, digest=digest)
        wait_until(moment, 30, "the moment")
        worker.kill()
        worker.wait()
        return ensemble

    def recovers(self, swarm: Swarm, ensemble: str, node: str) -> None:
        """A new worker in the place of the dead one takes nothing half-made for whole."""
        swarm.worker(node)
        (record,) = swarm.stack.wait(ensemble)

        assert (record.state, record.value) == ("finished", FILES)
        directories = [swarm.environments(node), swarm.environments(node).parent / "payloads"]
        wait_until(lambda: _drafts(directories) == [], 10, "what was left over to be removed")

    def test_the_payload(self, swarm: Swarm, digest):
        relay = StallingRelay(swarm.stack.filestore_port, 700)
        ensemble = self.kill_when(swarm, digest, "d-1", relay.stalled.is_set, FILE_HOST_PORT=str(relay.port))
        relay.close()

        assert not (swarm.stack.directory / "d-1" / "payloads" / digest).exists()
        self.recovers(swarm, ensemble, "d-1")

    def test_the_archive(self, swarm: Swarm, digest):
        relay = StallingRelay(swarm.stack.filestore_port, 50_000)
        ensemble = self.kill_when(swarm, digest, "d-2", relay.stalled.is_set, FILE_HOST_PORT=str(relay.port))
        relay.close()

        self.nothing_is_whole(swarm, "d-2")
        self.recovers(swarm, ensemble, "d-2")

    def test_and_unpacking(self, swarm: Swarm, digest):
        archives = swarm.stack.directory.glob("files/environments/*.tar.zst")
        size = max(archive.stat().st_size for archive in archives)
        relay = StallingRelay(swarm.stack.filestore_port, size // 2)
        trees = swarm.environments("d-3")

        def unpacking() -> list[Path]:
            return list(trees.glob(".draft-*.tree/.venv"))

        ensemble = self.kill_when(swarm, digest, "d-3", unpacking, FILE_HOST_PORT=str(relay.port))
        relay.close()

        assert unpacking()
        self.nothing_is_whole(swarm, "d-3")
        self.recovers(swarm, ensemble, "d-3")

    def nothing_is_whole(self, swarm: Swarm, node: str) -> None:
        assert list(swarm.environments(node).glob("*/complete.json")) == []


def test_an_environment_that_is_gone_from_the_file_store_is_built_and_stored_again(swarm: Swarm, tmp_path):
    digest = swarm.payload("once")
    swarm.worker("e-1")
    swarm.meet(digest, tmp_path / "first")
    for stored in swarm.stack.store.list("environments/"):
        swarm.stack.store.delete(stored.name)
    swarm.stop()

    swarm.worker("e-2")
    swarm.meet(digest, tmp_path / "second")

    def is_stored() -> bool:
        return any(
            swarm.stack.store.exists(names.stored_environment_record(path.parent.name))
            for path in swarm.environments("e-2").glob("*/complete.json")
        )

    wait_until(is_stored, 30, "the environment to be stored again")


def _drafts(directories: list[Path]) -> list[str]:
    return [
        path.name
        for directory in directories
        for path in directory.iterdir()
        if path.name.startswith(".") or path.suffix == ".zip"
    ]


def _ocean(folder: Path) -> Path:
    """A wheel of many small modules."""
    wheel = folder / "ocean-3.0-py3-none-any.whl"
    info = "ocean-3.0.dist-info"
    files = {f"ocean/part_{number}.py": f"DEPTH = {number**40}\n" for number in range(FILES)}
    files |= {
        "ocean/__init__.py": "VERSION = '3.0'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: ocean\nVersion: 3.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as file:
        for path, text in files.items():
            file.writestr(zipfile.ZipInfo(path), text)
    return wheel
