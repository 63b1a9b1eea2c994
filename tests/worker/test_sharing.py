"""Environments and locks that several nodes share, by way of a real file store and a real Redis."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudburst import names
from cloudburst.errors import BuildError, NoRoomError
from cloudburst.filestore.client import FileStore
from cloudburst.rqwire.builds import Builds, Lease
from cloudburst.worker import interpreters
from cloudburst.worker.dependencies import Lock, Pipfile, local_lock, lock_key
from cloudburst.worker.environment import Environment, Recipe
from cloudburst.worker.locking import Locking
from cloudburst.worker.sharing import Sharing
from cloudburst.worker.stored import Record, Stored
from cloudburst.worker.tools import Tools
from tests.conftest import free_port
from tests.wait import wait_until
from tests.worker.conftest import TOKEN, MiniStack
from tests.worker.package_index import PackageIndex

pytestmark = pytest.mark.slow

LEASE_S = 1.0
PIPFILE = '[packages]\ntide = "*"\n'


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniStack]:
    """A Redis and a file store, without workers."""
    stack = MiniStack(tmp_path_factory.mktemp("stack"))
    try:
        stack.redis_server.start()
        stack.start_filestore()
        stack.connect()
        yield stack
    finally:
        stack.stop()


class Node:
    """One node of several, as far as its environments go."""

    def __init__(self, folder: Path, services: MiniStack, index: PackageIndex, name: str = "node-1") -> None:
        self.environments = folder / name / "environments"
        self.environments.mkdir(parents=True, exist_ok=True)
        self.notes: list[str] = []
        self.stop = threading.Event()
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PIP_INDEX_URL": index.url,
        }
        self.tools = Tools.of(environ, self.environments, self.notes.append, self.stop)
        self.name = name
        self.use(services)

    def use(
        self, services: MiniStack, *, redis_port: int | None = None, store_port: int | None = None
    ) -> None:
        """Talk to these services, or to whatever is at other ports."""
        redis = type(services.redis)(port=redis_port or services.redis_server.port)
        store = FileStore(f"http://127.0.0.1:{store_port or services.filestore_port}", TOKEN, timeout_s=5)
        builds = Builds(redis, self.name, LEASE_S)
        self.stored = Stored(store, self.environments, self.name)
        self.sharing = Sharing(self.stored, builds, self.environments, node=self.name, patience_s=LEASE_S)
        self.locking = Locking(store, builds, self.environments / "locks", patience_s=LEASE_S)
        self.builds = builds

    def environment(self, recipe: Recipe) -> Environment:
        return self.sharing.environment(recipe, self.tools)

    def left_over(self) -> list[str]:
        return [path.name for path in self.environments.iterdir() if path.name.startswith(".")]


def recipe_of(folder: Path, lock: Lock | None = None, **extra: str) -> Recipe:
    """A recipe for ``tide``; with other ``extra`` for an environment of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "Pipfile").write_text(PIPFILE)
    interpreter = interpreters.find("", os.environ)
    return Recipe(Pipfile.of(folder), lock or Lock("{}"), interpreter, tuple(extra.items()))


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory, services: MiniStack, index: PackageIndex) -> Lock:
    folder = tmp_path_factory.mktemp("lock")
    node, recipe = Node(folder, services, index), recipe_of(folder / "payload")
    return local_lock(recipe.pipfile, recipe.interpreter, folder / "locks", node.tools)


@pytest.fixture
def nodes(tmp_path: Path, services: MiniStack, index: PackageIndex) -> Callable[[str], Node]:
    return lambda name: Node(tmp_path, services, index, name)


@pytest.fixture
def recipe(tmp_path: Path, lock: Lock) -> Recipe:
    """Not stored by any test before."""
    return recipe_of(tmp_path / "payload", lock, CFLAGS=str(tmp_path))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, services, index, lock) -> Recipe:
    """An environment that a node has built and stored."""
    folder = tmp_path_factory.mktemp("shared")
    recipe = recipe_of(folder / "payload", lock)
    store(Node(folder, services, index, "builder"), recipe)
    return recipe


def store(node: Node, recipe: Recipe) -> Environment:
    """Build it on that node and wait until it is in the file store."""
    built = node.environment(recipe)
    wait_until(lambda: is_stored(node, recipe), 20, "the environment to be stored")
    return built


def is_stored(node: Node, recipe: Recipe) -> bool:
    return node.stored.has(recipe.digest) and node.builds.look(f"environment-{recipe.digest}") is None


def wheels(index: PackageIndex) -> list[str]:
    """The wheels that the index was asked for, one entry each time."""
    return sorted(path.rpartition("/")[2] for path in index.requests if path.endswith(".whl"))


def versions(environment: Environment) -> str:
    code = "import tide, rainfall; print(tide.VERSION, rainfall.VERSION)"
    said = subprocess.run([environment.python, "-c", code], capture_output=True, text=True, check=True)
    return said.stdout.strip()


def together(*calls: Callable[[], Environment]) -> list[Environment]:
    with ThreadPoolExecutor(len(calls)) as pool:
        futures: list[Future[Environment]] = [pool.submit(call) for call in calls]
        return [future.result(60) for future in futures]


class TestOneBuilds:
    def test_and_the_others_fetch_so_that_each_wheel_is_asked_for_once(self, nodes, recipe, index):
        three = [nodes(f"node-{number}") for number in range(3)]
        index.requests.clear()

        environments = together(*[lambda node=node: node.environment(recipe) for node in three])

        assert wheels(index) == ["rainfall-1.1-py3-none-any.whl", "tide-2.0-py3-none-any.whl"]
        assert [versions(environment) for environment in environments] == ["2.0 1.1"] * 3
        (builder,) = [node for node in three if "installing 2 packages" in node.notes]
        for node in three:
            if node is not builder:
                assert f"{builder.name} is making the environment; waiting" in node.notes
                assert "unpacking the environment" in node.notes

    def test_and_what_was_fetched_is_as_compiled_as_what_was_built(self, nodes, shared):
        fetched = nodes("node-2").environment(shared)

        tide = next(fetched.directory.rglob("tide/__init__.py"))
        code = f"import sys; sys.path.insert(0, {str(tide.parent.parent)!r}); import tide"
        argv = [fetched.python, "-B", "-v", "-c", code]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stderr
        assert f"matches {tide}" in said

    def test_and_what_was_fetched_runs_in_its_own_place(self, nodes, shared):
        fetched = nodes("node-2").environment(shared)

        code = "import sys, tide; print(sys.prefix); print(tide.__file__)"
        said = subprocess.run([fetched.python, "-c", code], capture_output=True, text=True, check=True).stdout
        prefix, file = said.splitlines()
        assert prefix == str(fetched.directory / ".venv")
        assert file.startswith(prefix)

    def test_and_its_record_tells_what_it_is(self, nodes, shared):
        node = nodes("node-2")
        text = node.stored._store.read(names.stored_environment_record(shared.digest))

        record = json.loads(text)
        assert record["node"] == "builder"
        assert record["python_version"] == shared.interpreter.version
        assert record["sha256"] == node.stored._store.etag(names.stored_environment(shared.digest))

    def test_and_a_node_that_has_it_asks_nobody(self, nodes, shared, services):
        node = nodes("node-2")
        first = node.environment(shared)
        node.use(services, redis_port=free_port(), store_port=free_port())
        node.notes.clear()

        assert node.environment(shared) == first
        assert node.notes == []

    def test_and_a_failure_is_told_to_the_others_in_the_same_words(self, nodes, tmp_path, lock):
        wrong = Lock(lock.text.replace("sha256:", "sha256:0000"))
        recipe = recipe_of(tmp_path / "payload", wrong, CFLAGS=str(tmp_path))
        first, second = nodes("node-1"), nodes("node-2")
        with pytest.raises(BuildError) as told:
            first.environment(recipe)

        with pytest.raises(BuildError) as heard:
            second.environment(recipe)

        assert (heard.value.args, heard.value.tail) == (told.value.args, told.value.tail)
        assert second.notes == []

    def test_and_one_that_cannot_store_it_lets_the_others_build_at_once(self, nodes, recipe):
        lease = nodes("node-1").builds.take(f"environment-{recipe.digest}")
        assert isinstance(lease, Lease)
        lease.unshared()

        assert versions(nodes("node-2").environment(recipe)) == "2.0 1.1"

    def test_and_another_takes_over_when_it_is_gone(self, nodes, recipe, services):
        key = f"cb:build:environment-{recipe.digest}"
        services.redis.hset(key, mapping={"state": "building", "token": "x", "node": "node-1"})
        services.redis.pexpire(key, int(LEASE_S * 1000))
        node = nodes("node-2")

        assert versions(node.environment(recipe)) == "2.0 1.1"
        assert node.notes[0] == "node-1 is making the environment; waiting"

    def test_and_stores_it_later_if_that_failed_at_first(self, nodes, recipe, services):
        node = nodes("node-1")
        node.use(services, store_port=free_port())
        node.environment(recipe)
        node.use(services)
        assert not node.stored.has(recipe.digest)

        node.environment(recipe)

        wait_until(lambda: is_stored(node, recipe), 20, "the environment to be stored")


class TestWithoutServices:
    def test_a_node_builds_for_itself_when_redis_is_away_and_shares_it(self, nodes, recipe, services):
        node = nodes("node-1")
        node.use(services, redis_port=free_port())

        assert versions(node.environment(recipe)) == "2.0 1.1"

        wait_until(lambda: nodes("node-2").stored.has(recipe.digest), 20, "the environment to be stored")

    def test_a_node_builds_for_itself_when_the_file_store_is_away(self, nodes, recipe, services):
        node = nodes("node-1")
        node.use(services, store_port=free_port())

        assert versions(node.environment(recipe)) == "2.0 1.1"
        assert node.builds.look(f"environment-{recipe.digest}") is None


class TestWhatIsStored:
    @pytest.fixture
    def stored(self, nodes, recipe) -> Recipe:
        """Stored for one test alone."""
        store(nodes("builder"), recipe)
        return recipe

    def test_and_has_other_bytes_on_the_disk_is_built_and_stored_anew(self, nodes, stored, services):
        (archive,) = [
            path
            for path in (services.directory / "files").rglob("*")
            if path.is_file() and path.name == f"{stored.digest}.tar.zst"
        ]
        contents = bytearray(archive.read_bytes())
        contents[len(contents) // 2] ^= 0xFF
        with archive.open("r+b") as file:
            file.write(contents)
        node = nodes("node-2")

        assert versions(node.environment(stored)) == "2.0 1.1"

        assert "installing 2 packages" in node.notes
        self.fetches(nodes("node-3"), stored)

    def test_and_cannot_be_unpacked_is_built_and_stored_anew(self, nodes, stored):
        node = nodes("node-2")
        sha256 = node.stored._store.put(names.stored_environment(stored.digest), b"not an archive")
        name = names.stored_environment_record(stored.digest)
        record = json.loads(node.stored._store.read(name)) | {"sha256": sha256}
        node.stored._store.put(name, json.dumps(record).encode())

        assert versions(node.environment(stored)) == "2.0 1.1"

        assert "installing 2 packages" in node.notes
        self.fetches(nodes("node-3"), stored)

    def test_and_has_a_damaged_record_is_built_and_stored_anew(self, nodes, stored):
        node = nodes("node-2")
        node.stored._store.put(names.stored_environment_record(stored.digest), b'{"sha256": 5}')

        assert versions(node.environment(stored)) == "2.0 1.1"

        self.fetches(nodes("node-3"), stored)

    def fetches(self, node: Node, recipe: Recipe) -> None:
        """It is in the file store as it should be: soon, since storing goes on after building."""
        assert versions(node.environment(recipe)) == "2.0 1.1"
        assert "unpacking the environment" in node.notes
        assert "installing 2 packages" not in node.notes


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"5", b"\xff", b'{"sha256": 5}', b'{"sha256": "a", "more": 1}']
)
def test_a_damaged_record_is_found_to_be_one(text):
    with pytest.raises((ValueError, TypeError)):
        Record.from_json(text)


class TestFullDisk:
    def on(self, disk: Path, services: MiniStack, index: PackageIndex) -> Node:
        return Node(disk, services, index, "small-node")

    def test_is_told_before_anything_is_fetched_with_what_is_needed(
        self, small_disk, services, index, shared
    ):
        node = self.on(small_disk(64 * 1024), services, index)

        with pytest.raises(
            NoRoomError, match=r"needs 0\.\d MB on the disk of .*small-node.* are free: make room"
        ):
            node.environment(shared)

        assert node.notes == []

    def test_in_the_middle_of_unpacking_leaves_nothing_and_other_nodes_go_on(
        self, small_disk, services, index, shared, nodes
    ):
        reader = nodes("node-2")
        name = names.stored_environment_record(shared.digest)
        record = json.loads(reader.stored._store.read(name))
        understated = record | {"unpacked_bytes": 0}
        size = -(-record["archive_bytes"] // 4096) * 4096 + 64 * 1024
        node = self.on(small_disk(size), services, index)
        reader.stored._store.put(name, json.dumps(understated).encode())
        try:
            with pytest.raises(NoRoomError, match="no room for the environment on small-node"):
                node.environment(shared)
        finally:
            reader.stored._store.put(name, json.dumps(record).encode())

        assert "unpacking the environment" in node.notes
        assert node.left_over() == []
        assert not (node.environments / shared.digest).exists()
        assert versions(reader.environment(shared)) == "2.0 1.1"

    def test_of_the_file_store_lets_every_node_build_for_itself(self, small_disk, services, nodes, recipe):
        full = MiniStack(small_disk(256 * 1024))
        full.start_filestore()
        free = shutil.disk_usage(full.directory).free
        (full.directory / "filler").write_bytes(b"x" * (free - 8192))
        try:
            first, second = nodes("node-1"), nodes("node-2")
            for node in (first, second):
                node.use(services, store_port=full.filestore_port)

            environments = [node.environment(recipe) for node in (first, second)]

            assert [versions(environment) for environment in environments] == ["2.0 1.1"] * 2
            assert not first.stored.has(recipe.digest)
        finally:
            for process in full.processes:
                process.kill()
                process.wait()

    def test_while_building_is_not_told_as_a_fault_of_the_payload(
        self, small_disk, services, index, recipe, nodes
    ):
        node = self.on(small_disk(256 * 1024), services, index)

        with pytest.raises(NoRoomError, match="it does not fit on the disk"):
            node.environment(recipe)

        assert not (node.environments / recipe.digest).exists()
        assert versions(nodes("node-2").environment(recipe)) == "2.0 1.1"


class TestALock:
    def lock(self, node: Node, payload: str, folder: Path, text: str = PIPFILE) -> Lock:
        folder.mkdir(exist_ok=True)
        (folder / "Pipfile").write_text(text)
        pipfile, interpreter = Pipfile.of(folder), interpreters.find("", os.environ)
        return node.locking.lock(payload, pipfile, interpreter, node.tools)

    RESOLVING = "resolving the Pipfile with pipenv, as there is no Pipfile.lock"

    @pytest.fixture
    def pipfile(self, tmp_path: Path) -> str:
        """Unlike that of any other test."""
        return f"{PIPFILE}# {tmp_path}\n"

    def test_is_made_once_for_all_nodes_and_lies_beside_the_payload(self, nodes, tmp_path, pipfile, services):
        three = [nodes(f"node-{number}") for number in range(3)]
        digest = "1" * 64

        with ThreadPoolExecutor() as pool:
            locks = list(
                pool.map(lambda node: self.lock(node, digest, tmp_path / node.name / "p", pipfile), three)
            )

        assert len({lock.text for lock in locks}) == 1
        assert sum(self.RESOLVING in node.notes for node in three) == 1
        assert services.store.read(names.stored_lock(digest)) == locks[0].text.encode()

    @pytest.fixture
    def seeded(self, nodes, pipfile, lock, tmp_path) -> Callable[[str], Node]:
        """Nodes that have resolved the Pipfile before, so that it takes no time."""
        (tmp_path / "p").mkdir()
        (tmp_path / "p" / "Pipfile").write_text(pipfile)
        key = lock_key(Pipfile.of(tmp_path / "p"), interpreters.find("", os.environ))

        def seed(name: str) -> Node:
            node = nodes(name)
            locks = node.environments / "locks"
            locks.mkdir()
            (locks / f"{key}.lock").write_text(lock.text)
            return node

        return seed

    def test_stays_the_same_when_only_the_code_changes(
        self, seeded, nodes, tmp_path, pipfile, services, index
    ):
        first = self.lock(seeded("node-1"), "2" * 64, tmp_path / "p", pipfile)
        node, asked = nodes("node-2"), len(index.requests)

        second = self.lock(node, "3" * 64, tmp_path / "p", pipfile)

        assert second == first
        assert node.notes == []
        assert len(index.requests) == asked
        assert services.store.read(names.stored_lock("3" * 64)) == first.text.encode()

    def test_is_asked_for_once_per_node(self, seeded, nodes, tmp_path, pipfile, services):
        first = self.lock(seeded("node-1"), "4" * 64, tmp_path / "p", pipfile)
        node = nodes("node-2")
        self.lock(node, "4" * 64, tmp_path / "p", pipfile)
        node.use(services, redis_port=free_port(), store_port=free_port())

        assert self.lock(node, "4" * 64, tmp_path / "p", pipfile) == first

    def test_that_is_damaged_in_the_file_store_is_made_again(self, seeded, tmp_path, pipfile, services):
        first = self.lock(seeded("node-1"), "5" * 64, tmp_path / "p", pipfile)
        for stored in services.store.list("locks/"):
            services.store.put(stored.name, b"damaged")
        services.store.put(names.stored_lock("5" * 64), b"damaged")

        assert self.lock(seeded("node-2"), "5" * 64, tmp_path / "p", pipfile) == first
        assert services.store.read(names.stored_lock("5" * 64)) == first.text.encode()

    def test_is_made_here_when_the_file_store_is_away(self, seeded, tmp_path, pipfile, services):
        node = seeded("node-1")
        node.use(services, store_port=free_port())

        assert "tide" in self.lock(node, "6" * 64, tmp_path / "p", pipfile).packages

    def test_that_cannot_be_made_fails_on_all_nodes_with_the_same_words(self, nodes, tmp_path):
        text = '[packages]\nno-such-package = "*"\n'
        with pytest.raises(BuildError) as told:
            self.lock(nodes("node-1"), "7" * 64, tmp_path / "p", text)
        second = nodes("node-2")

        with pytest.raises(BuildError) as heard:
            self.lock(second, "7" * 64, tmp_path / "p", text)

        assert heard.value.args == told.value.args
        assert second.notes == []
