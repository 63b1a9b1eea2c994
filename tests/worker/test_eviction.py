"""What goes from a node's disk when there is too much, and what stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cloudburst.worker.keeping import Keeping
from tests.wait import wait_until
from tests.worker import payload
from tests.worker.conftest import MiniStack

pytestmark = pytest.mark.slow

LIMIT_GB = "0.004"
DATA_BYTES = 1_500_000
"""Of each payload: two are below the limit, three are above it."""

MODULE = """
import os, time
from pathlib import Path

def size(params):
    return len((Path(__file__).parent / "data.bin").read_bytes())

def hold(params):
    Path(params["held"]).touch()
    while not Path(params["go"]).exists():
        time.sleep(0.02)
    return size(params)
"""


class Node:
    """The directories of a node, and what decides about them."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.payloads, self.environments = folder / "payloads", folder / "environments"
        for directory in (self.payloads, self.environments):
            directory.mkdir(parents=True)
        self.keeping = Keeping(self.payloads, self.environments, limit_bytes)

    def environment(self, digit: str, kilobytes: int, used: float) -> Path:
        """One of that size that was last used at that time."""
        made = self.environments / (digit * 64)
        made.mkdir()
        (made / "file").write_bytes(b"x" * kilobytes * 1024)
        os.utime(made, (used, used))
        return made


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, 100 * 1024)


class TestWhatGoes:
    def test_is_nothing_within_the_limit(self, node):
        one = node.environment("1", 60, 1)
        node.keeping.measure()

        assert node.keeping.evict([]) == set()
        assert one.exists()

    def test_is_what_was_used_least_recently_and_no_more_than_needed(self, node):
        old, oldest, new = (
            node.environment(*which) for which in (("1", 60, 20), ("2", 20, 10), ("3", 60, 30))
        )
        node.keeping.measure()

        assert node.keeping.evict([]) == {oldest, old}
        assert (old.exists(), oldest.exists(), new.exists()) == (False, False, True)

    def test_is_never_in_use(self, node):
        old, new = node.environment("1", 80, 10), node.environment("2", 80, 20)
        node.keeping.measure()

        assert node.keeping.evict([old]) == {new}
        assert node.keeping.evict([old]) == set()

    def test_depends_on_use_that_outlives_the_worker(self, node):
        first, second = node.environment("1", 60, 10), node.environment("2", 40, 20)
        node.keeping.measure()
        node.keeping.evict([first])
        node.environment("3", 40, time.time() + 60)

        another = Keeping(node.payloads, node.environments, 100 * 1024)
        another.measure()

        assert another.evict([]) == {second}

    def test_counts_payloads_and_the_caches_of_tools_which_go_first(self, node):
        node.environment("1", 40, 10)
        (node.payloads / ("2" * 64)).mkdir()
        (node.payloads / ("2" * 64) / "data").write_bytes(b"x" * 50 * 1024)
        (node.environments / "cache").mkdir()
        (node.environments / "cache" / "wheel").write_bytes(b"x" * 50 * 1024)
        node.keeping.measure()

        assert node.keeping.evict([]) == {node.environments / "cache"}

    def test_is_moved_away_before_it_is_deleted(self, node):
        old = node.environment("1", 120, 10)
        node.keeping.measure()

        node.keeping.evict([])
        assert not old.exists()
        assert [path.name[:7] for path in node.environments.iterdir()] == [".trash-"]

        node.keeping.clear()
        assert list(node.environments.iterdir()) == []

    def test_may_have_gone_by_itself(self, node):
        old = node.environment("1", 120, 10)
        node.keeping.measure()
        (old / "file").unlink()
        old.rmdir()

        assert node.keeping.evict([]) == {old}
        assert node.keeping.evict([]) == set()


def test_files_with_two_names_are_counted_once(node):
    one, two = node.environment("1", 80, 10), node.environment("2", 0, 20)
    os.link(one / "file", two / "the-same")

    node.keeping.measure()

    assert node.keeping.evict([]) == set()


class TestLeftovers:
    @pytest.mark.parametrize(
        "name", [".draft-1.archive", ".draft-1.tree", ".trash-1", ".1111-x", ".0a.part", "1111.zip"]
    )
    def test_of_a_killed_worker_go_at_the_start(self, node, name):
        path = node.payloads / name
        if path.suffix in {".tree", ".trash-1"}:
            path.mkdir()
            (path / "file").touch()
        else:
            path.touch()

        node.keeping.leftovers()
        node.keeping.clear()

        assert list(node.payloads.iterdir()) == []

    def test_are_not_what_may_still_be_used(self, node):
        kept = {node.environment("1", 1, 10), node.environments / "locks", node.environments / "cache"}
        for directory in kept:
            directory.mkdir(exist_ok=True)
        log = node.environments / f"{'2' * 64}.log"
        log.touch()
        flock = node.environments / f"{'1' * 64}.flock"
        flock.touch()

        node.keeping.leftovers()

        assert set(node.environments.iterdir()) == {*kept, log, flock}

    def test_include_old_logs_of_builds_that_failed(self, node):
        log = node.environments / f"{'2' * 64}.log"
        log.touch()
        os.utime(log, (10, 10))

        node.keeping.leftovers()

        assert not log.exists()


@pytest.fixture
def mini(tmp_path: Path):
    stack = MiniStack(tmp_path / "stack")
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def upload(stack: MiniStack, name: str) -> str:
    """A payload with much data; its digest."""
    directory = payload.write(stack.directory / name, {"worker.py": MODULE})
    (directory / "data.bin").write_bytes(os.urandom(DATA_BYTES))
    return stack.upload(directory)


def test_a_worker_keeps_to_its_limit_and_gets_back_what_it_needs_again(mini, tmp_path):
    payloads = mini.directory / "state" / "payloads"
    held, go = tmp_path / "held", tmp_path / "go"
    first, second, third = (upload(mini, name) for name in ("first", "second", "third"))
    worker = mini.worker(slots=2, CLOUDBURST_ENVIRONMENTS_GB=LIMIT_GB)

    holding = mini.submit("worker.hold", {"held": str(held), "go": str(go)}, digest=first)
    wait_until(held.exists, 60, "the first payload to be in use")
    for digest in (second, third):
        assert [record.value for record in mini.run("worker.size", {}, digest=digest)] == [DATA_BYTES]

    # The first is the oldest, but in use: the second goes.
    wait_until(lambda: not (payloads / second).exists(), 30, "the second payload to be removed")
    assert (payloads / first).exists()
    go.touch()
    assert mini.wait(holding)[0].value == DATA_BYTES
    (again,) = mini.run("worker.size", {}, digest=second)
    assert (again.state, again.value) == ("finished", DATA_BYTES)
    wait_until(lambda: len(_digests(payloads)) == 2, 30, "the limit to be kept again")
    assert worker.poll() is None


def _digests(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if not path.name.startswith(".")]
