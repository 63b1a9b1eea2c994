"""Environments, installed for real from a package index on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloudburst.errors import BuildError
from cloudburst.worker import environment, interpreters
from cloudburst.worker.dependencies import Lock, Pipfile, own_lock
from cloudburst.worker.environment import BuildStopped, Environment, Recipe
from cloudburst.worker.tools import Tools
from tests.wait import wait_until
from tests.worker.package_index import PackageIndex, make_wheel

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "client" / "example"


@pytest.fixture(scope="module")
def environ(index: PackageIndex, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a user whose pip is set to that index."""
    home = tmp_path_factory.mktemp("home")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PIP_INDEX_URL": index.url,
        "PIPENV_CACHE_DIR": str(home / "pipenv"),
        "VIRTUALENV_OVERRIDE_APP_DATA": str(home / "virtualenv"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def payload(folder: Path, pipfile: str, lock: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Pipfile").write_text(pipfile)
    if lock is not None:
        (folder / "Pipfile.lock").write_text(lock)
    return folder


def says(environment: Environment, code: str) -> str:
    """What the environment's interpreter prints."""
    done = subprocess.run([environment.python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Tide:
    """The environment of a payload without a lock that needs ``tide``; most tests only look at it."""

    pipfile = '[packages]\ntide = "*"\n'

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.environments = folder / "environments"
        self.notes: list[str] = []
        self.payload = payload(folder / "payload", self.pipfile)
        self.built = environment.of_payload(
            self.payload, self.environments, environ=environ, note=self.notes.append
        )

    @property
    def lock(self) -> str:
        return (self.built.directory / "Pipfile.lock").read_text()


@pytest.fixture(scope="module")
def tide(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Tide:
    return Tide(tmp_path_factory.mktemp("tide"), environ)


class TestWhatIsBuilt:
    def test_has_the_packages_and_what_they_need(self, tide: Tide) -> None:
        assert says(tide.built, "import tide, rainfall; print(tide.VERSION, rainfall.VERSION)") == "2.0 1.1"

    def test_says_what_takes_time(self, tide: Tide) -> None:
        assert tide.notes == [
            "resolving the Pipfile with pipenv, as there is no Pipfile.lock",
            "installing 2 packages",
            "compiling the installed packages",
        ]

    def test_is_compiled_though_this_machine_writes_no_bytecode(self, tide: Tide) -> None:
        compiled = {path.name.partition(".")[0] for path in tide.built.directory.rglob("*.pyc")}

        assert "__init__" in compiled
        assert "test_it" not in compiled  # tests are never imported

    def test_does_not_depend_on_the_virtual_environment_that_cloudburst_runs_in(self, tide: Tide) -> None:
        assert says(tide.built, "import sys; print(sys.base_prefix)") == sys.base_prefix
        assert tide.built.python.resolve() == interpreters.find("", os.environ).path

    def test_records_versions(self, tide: Tide) -> None:
        record = json.loads((tide.built.directory / "complete.json").read_text())

        assert record["packages"] == {"rainfall": "==1.1", "tide": "==2.0"}
        assert record["python_version"] == tide.built.python_version

    def test_has_a_lock_that_names_no_index_since_the_pipfile_names_none(
        self, tide: Tide, index: PackageIndex
    ) -> None:
        assert json.loads(tide.lock)["_meta"]["sources"] == []
        assert index.address not in tide.lock
        assert "pip_conf_index" not in tide.lock

    def test_is_used_again_without_any_tool(self, tide: Tide, environ: dict[str, str]) -> None:
        notes: list[str] = []

        again = environment.of_payload(tide.payload, tide.environments, environ=environ, note=notes.append)

        assert (again.directory, again.digest) == (tide.built.directory, tide.built.digest)
        assert notes == []

    def test_is_shared_by_payloads_with_equal_locks(
        self, tide: Tide, environ: dict[str, str], tmp_path: Path
    ) -> None:
        other = payload(tmp_path / "other", Tide.pipfile + "\n[scripts]\nx = 'y'\n", tide.lock)
        notes: list[str] = []

        shared = environment.of_payload(other, tide.environments, environ=environ, note=notes.append)

        assert shared.digest == tide.built.digest
        assert notes == []

    def test_is_shared_with_a_lock_that_was_made_where_pip_knows_another_index(
        self, tide: Tide, environ: dict[str, str], tmp_path: Path
    ) -> None:
        lock = json.loads(tide.lock)
        plain = {"PATH": environ["PATH"], "PIP_CONFIG_FILE": os.devnull}
        lock["_meta"]["hash"]["sha256"] = pipenv_hash(Tide.pipfile, tmp_path / "hash", plain)
        model = payload(tmp_path / "payload", Tide.pipfile, json.dumps(lock))

        assert json.dumps(lock, indent=4, sort_keys=True) != tide.lock.strip()
        assert environment.of_payload(model, tide.environments, environ=environ).digest == tide.built.digest


def digest(lock: Lock, interpreter: interpreters.Interpreter, table: dict[str, Any] | None = None) -> str:
    return Recipe(Pipfile(Path("payload"), "", table or {}), lock, interpreter).digest


class TestDigest:
    OWN = interpreters.Interpreter(Path("/usr/bin/python3"), "3.11.7", "linux-x86_64-cpython-311")
    LOCK = Lock('{"default": {"six": {"version": "==1.17.0", "hashes": ["sha256:47"], "index": "mine"}}}')

    def test_does_not_depend_on_where_packages_come_from_if_they_have_hashes(self) -> None:
        six = '"six": {"version": "==1.17.0", "hashes": ["sha256:47"]}'
        elsewhere = Lock(f'{{"default": {{{six}}}, "develop": {{"pytest": {{}}}}}}')

        assert digest(elsewhere, self.OWN) == digest(self.LOCK, self.OWN)

    def test_depends_on_the_index_but_not_on_the_login_of_what_has_no_hashes(self) -> None:
        def lock(url: str) -> Lock:
            sources = f'{{"sources": [{{"name": "mine", "url": "{url}"}}]}}'
            return Lock(
                f'{{"_meta": {sources}, "default": {{"six": {{"version": "==1", "index": "mine"}}}}}}'
            )

        own = digest(lock("https://ada:x@mine.example"), self.OWN)

        assert digest(lock("https://bob:y@mine.example"), self.OWN) == own
        assert digest(lock("https://other.example"), self.OWN) != own

    @pytest.mark.parametrize(
        "entry",
        [
            '{"version": "==1.0"}',
            '{"version": "==1.0", "hashes": []}',
            '{"version": "==1.0", "index": "gone"}',
            '{"version": "==1.0", "index": "mine"}',
            # Of a source archive: what it is built with comes from there.
            '{"version": "==1.0", "hashes": ["sha256:47"]}',
        ],
    )
    def test_depends_on_the_sources_of_the_lock_and_on_those_of_the_pipfile_that_come_before(
        self, entry: str
    ) -> None:
        def lock(url: str) -> Lock:
            sources = f'{{"sources": [{{"name": "mine", "url": "{url}"}}]}}'
            return Lock(f'{{"_meta": {sources}, "default": {{"levee": {entry}}}}}')

        honest, theirs = "https://mine.example/simple", "https://them.example/simple"
        own = digest(lock(honest), self.OWN)

        assert digest(lock(theirs), self.OWN) != own
        assert digest(lock(honest), self.OWN, {"source": [{"name": "mine", "url": theirs}]}) != own
        both = [{"name": "mine", "url": honest}, {"name": "x", "url": theirs}]
        assert digest(lock(honest), self.OWN, {"source": both}) != digest(
            lock(honest), self.OWN, {"source": both[::-1]}
        )

    def test_depends_on_variables_that_change_what_is_built(self) -> None:
        plain, tuned = (
            Tools.of(environ, Path("environments")).options
            for environ in ({"PIP_INDEX_URL": "x", "PATH": "y"}, {"CFLAGS": "-O3", "PIP_NO_BINARY": "numpy"})
        )

        assert plain == ()
        assert tuned == (("CFLAGS", "-O3"), ("PIP_NO_BINARY", "numpy"))
        recipe = Recipe(Pipfile(Path("payload"), "", {}), self.LOCK, self.OWN, tuned)
        assert recipe.digest != digest(self.LOCK, self.OWN)

    @pytest.mark.parametrize(
        ("lock", "version", "platform"),
        [
            (Lock('{"default": {"six": {"version": "==1.16.0"}}}'), "3.11.7", "linux-x86_64-cpython-311"),
            (LOCK, "3.11.8", "linux-x86_64-cpython-311"),
            (LOCK, "3.11.7", "linux-aarch64-cpython-311"),
        ],
    )
    def test_depends_on_versions_python_and_platform(self, lock: Lock, version: str, platform: str) -> None:
        other = interpreters.Interpreter(Path("/usr/bin/python3"), version, platform)

        assert digest(lock, other) != digest(self.LOCK, self.OWN)


class TestFailures:
    def failure(
        self, folder: Path, environ: Mapping[str, str], pipfile: str, lock: str | None = None
    ) -> BuildError:
        environments = folder / "environments"
        with pytest.raises(BuildError) as caught:
            environment.of_payload(payload(folder / "payload", pipfile, lock), environments, environ=environ)
        assert list(environments.rglob(".venv")) == []
        return caught.value

    def test_a_package_that_does_not_exist(self, environ: dict[str, str], tmp_path: Path) -> None:
        error = self.failure(tmp_path, environ, '[packages]\nnosuchpackage = "*"\n')

        assert (
            "cannot be resolved: no version matches: the package index has no nosuchpackage" in error.args[0]
        )
        assert "The user requested nosuchpackage" in error.tail
        assert "File " not in error.tail  # pipenv's own call stack is not for the user

    def test_a_version_that_does_not_exist(self, environ: dict[str, str], tmp_path: Path) -> None:
        error = self.failure(tmp_path, environ, '[packages]\ntide = "==9.9"\n')

        assert "the package index has no tide==9.9 for Python 3." in error.args[0]

    def test_a_pipfile_that_is_not_valid(self, environ: dict[str, str], tmp_path: Path) -> None:
        error = self.failure(tmp_path, environ, "[packages\n")

        assert "Pipfile: not valid TOML: Expected ']'" in error.args[0]

    def test_no_pipfile(self, environ: dict[str, str], tmp_path: Path) -> None:
        with pytest.raises(BuildError, match="the payload has no Pipfile"):
            environment.of_payload(tmp_path, tmp_path / "environments", environ=environ)

    def test_a_lock_that_does_not_match_the_pipfile_in_pipenvs_words(
        self, tide: Tide, environ: dict[str, str], tmp_path: Path
    ) -> None:
        error = self.failure(tmp_path, environ, '[packages]\ntide = "*"\nrainfall = "*"\n', tide.lock)

        assert "Pipfile.lock does not match the Pipfile: run 'pipenv lock'" in error.args[0]
        assert "Pipfile.lock is out-of-date" in error.tail

    @pytest.mark.parametrize("lock", ["<<<<<<< HEAD", "[]", '{"default": {"six": "1.0"}}'])
    def test_a_lock_that_is_none(self, environ: dict[str, str], tmp_path: Path, lock: str) -> None:
        error = self.failure(tmp_path, environ, Tide.pipfile, lock)

        assert "Pipfile.lock: not a lock of pipenv" in error.args[0]

    def test_a_package_that_was_tampered_with_from_an_index_in_pips_configuration_file_with_a_password(
        self, tide: Tide, index: PackageIndex, environ: dict[str, str], tmp_path: Path
    ) -> None:
        configuration = tmp_path / "pip.conf"
        login = f"http://user:hunter2@{index.address}/simple"
        configuration.write_text(f"[global]\nindex-url = {login}\nextra-index-url = {login}\n")
        settings = {name: value for name, value in environ.items() if name != "PIP_INDEX_URL"}
        settings["PIP_CONFIG_FILE"] = str(configuration)
        forged = tide.lock.replace(index.hash_of("rainfall"), "0" * 64)
        pipfile = f'[[source]]\nurl = "{login}"\nname = "mine"\nverify_ssl = false\n{Tide.pipfile}'
        lock = json.loads(forged)
        lock["_meta"]["hash"]["sha256"] = pipenv_hash(pipfile, tmp_path / "hash", settings)

        error = self.failure(tmp_path, settings, pipfile, json.dumps(lock))

        assert "cannot be installed: rainfall==1.1 on the package index has not the hash" in error.args[0]
        assert f"sha256:{'0' * 64}" in error.tail
        assert "hunter2" not in str(error)
        log = next((tmp_path / "environments").glob("*.log")).read_text()
        assert "Hash mismatch" in log  # the whole of it is kept on the node
        assert "hunter2" not in log

    def test_a_python_that_is_not_there_at_once_with_those_that_are(
        self, environ: dict[str, str], tmp_path: Path
    ) -> None:
        error = self.failure(tmp_path, environ, '[requires]\npython_version = "3.99"\n')

        own = interpreters.find("", environ).version
        assert error.args[0].startswith(
            "the Pipfile requires Python 3.99, which is not on this node (found: "
        )
        assert own in error.args[0]


def pipenv_hash(pipfile: str, folder: Path, environ: Mapping[str, str]) -> str:
    """What pipenv writes into the lock of this Pipfile."""
    payload(folder, pipfile)
    code = "from pipenv.project import Project; print(Project().pipfile.calculate_hash())"
    variables = {**environ, "PIPENV_PIPFILE": str(folder / "Pipfile")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class TestInterruptions:
    @pytest.fixture
    def hanging(self, index: PackageIndex) -> Iterator[PackageIndex]:
        index.answering.clear()
        index.requests.clear()
        yield index
        index.answering.set()

    def test_a_build_that_is_stopped_leaves_no_process_and_no_environment(
        self, tide: Tide, hanging: PackageIndex, environ: dict[str, str], tmp_path: Path
    ) -> None:
        stop = threading.Event()
        environments = tmp_path / "environments"
        model = payload(tmp_path / "payload", Tide.pipfile, tide.lock)
        outcome: list[object] = []

        def build() -> None:
            try:
                outcome.append(environment.of_payload(model, environments, environ=environ, stop=stop))
            except BuildStopped as stopped:
                outcome.append(stopped)

        thread = threading.Thread(target=build)
        thread.start()
        wait_until(lambda: hanging.requests, 30, "pip to ask the index")
        stop.set()
        thread.join(30)

        assert isinstance(outcome[0], BuildStopped)
        assert processes_in(environments) == []
        assert not list(environments.rglob(".venv"))
        assert not list(environments.rglob(".scratch"))

    def test_a_worker_killed_in_a_build_and_two_that_start_then_share_one_environment(
        self, tide: Tide, hanging: PackageIndex, environ: dict[str, str], tmp_path: Path
    ) -> None:
        environments = tmp_path / "environments"
        model = payload(tmp_path / "payload", Tide.pipfile, tide.lock)
        killed = builder(model, environments, environ)
        wait_until(lambda: hanging.requests, 30, "pip to ask the index")
        killed.kill()
        killed.communicate()

        others = [builder(model, environments, environ) for _ in range(2)]
        for other in others:
            assert other.stdout is not None
            assert "waiting for another build" in other.stdout.readline()  # its tools are still at it
        hanging.answering.set()
        printed = [other.communicate(timeout=60)[0].splitlines() for other in others]

        assert printed[0][-1] == printed[1][-1] == str(environments / tide.built.digest)
        assert sum("installing 2 packages" in lines for lines in printed) == 1


def builder(model: Path, environments: Path, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    """A process that builds, and prints its notes and then the environment's directory."""
    code = (
        "import os, sys; from pathlib import Path; from cloudburst.worker import environment\n"
        "paths = map(Path, sys.argv[1:])\n"
        "built = environment.of_payload(*paths, environ=os.environ, note=print)\n"
        "print(built.directory)"
    )
    argv = [sys.executable, "-u", "-c", code, str(model), str(environments)]
    return subprocess.Popen(argv, env=dict(environ), stdout=subprocess.PIPE, text=True)


def processes_in(folder: Path) -> list[list[str]]:
    """Command lines of the processes that work in ``folder``."""
    found = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if any(str(folder) in argument for argument in line):
            found.append(line)
    return found


def test_a_wheel_that_comes_with_the_payload_is_installed_and_its_contents_are_part_of_the_digest(
    environ: dict[str, str], tmp_path: Path
) -> None:
    model = tmp_path / "payload"
    wheel = make_wheel(model / "vendor", "levee", "0.1")
    payload(model, f'[packages]\nlevee = {{file = "./vendor/{wheel.name}"}}\n')
    contents = Pipfile.of(model).local_digest

    built = environment.of_payload(model, tmp_path / "environments", environ=environ)

    assert says(built, "import levee; print(levee.VERSION)") == "0.1"
    make_wheel(model / "vendor", "levee", "0.2").replace(wheel)
    assert Pipfile.of(model).local_digest != contents


def test_the_payload_itself_as_a_package_is_installed_as_a_copy_though_it_says_editable(
    environ: dict[str, str], tmp_path: Path
) -> None:
    model = payload(tmp_path / "payload", '[packages]\nlevee = {path = ".", editable = true}\n')
    wheel = make_wheel(tmp_path / "wheels", "levee", "0.3")
    (model / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "levee"\nversion = "0.3"\n'
    )
    (model / "backend.py").write_text(  # the least that a build backend can be
        "import shutil\n"
        "def build_wheel(directory, settings=None, metadata=None):\n"
        f"    return shutil.copy({str(wheel)!r}, directory).rpartition('/')[2]\n"
        "build_editable = build_wheel\n"
    )
    lock = '{"_meta": {"sources": []}, "default": {"levee": {"editable": true, "path": "."}}}'

    recipe = Recipe(Pipfile.of(model), Lock(lock), interpreters.find("", environ))
    built = environment.build(recipe, tmp_path / "environments", Tools.of(environ, tmp_path))

    assert says(built, "import levee; print(levee.__file__)").startswith(str(built.directory))
    assert not (built.directory / "backend.py").exists()
    assert str(tmp_path / "payload") not in says(built, "import sys; print(sys.path)")


def test_a_lock_that_has_matched_once_is_not_verified_again(
    tide: Tide, environ: dict[str, str], tmp_path: Path
) -> None:
    model = payload(tmp_path / "payload", Tide.pipfile, tide.lock)
    tools = Tools.of(environ, tmp_path)
    assert own_lock(Pipfile.of(model), tmp_path / "locks", tools) == Lock(tide.lock)
    (model / "worker.py").write_text("only code changes")

    tools.stop.set()  # whatever is run now raises BuildStopped

    assert own_lock(Pipfile.of(model), tmp_path / "locks", tools) == Lock(tide.lock)


class TestMoving:
    """What another node has built, unpacked here."""

    @pytest.fixture
    def unpacked(self, tide: Tide, tmp_path: Path) -> Path:
        """Another node's environment, as it comes out of an archive: without links that lead out of it."""
        copy = tmp_path / "environments" / "unpacked"
        shutil.copytree(tide.built.directory, copy, symlinks=True)
        (copy / ".venv" / "bin" / "python").unlink()
        configuration = copy / ".venv" / "pyvenv.cfg"
        configuration.write_text(
            configuration.read_text().replace(f"home = {sys.base_prefix}", "home = /gone")
        )
        return copy

    def recipe(self, tide: Tide) -> Recipe:
        return Recipe(Pipfile.of(tide.payload), Lock(tide.lock), interpreters.find("", os.environ))

    def test_an_environment_of_another_node_works_at_another_place(
        self, tide: Tide, unpacked: Path, environ: dict[str, str], tmp_path: Path
    ) -> None:
        environments = tmp_path / "environments"

        adopted = environment.adopt(
            unpacked, self.recipe(tide), environments, Tools.of(environ, environments)
        )

        assert adopted.directory == environments / tide.built.digest
        assert not unpacked.exists()
        assert says(adopted, "import tide; print(tide.__file__)").startswith(str(adopted.directory))
        assert says(adopted, "import sys; print(sys.base_prefix)") == sys.base_prefix
        assert environment.complete(environments, adopted.digest, interpreters.find("", environ)) == adopted

    def test_its_bytecode_is_used_as_it_is(
        self, tide: Tide, unpacked: Path, environ: dict[str, str], tmp_path: Path
    ) -> None:
        adopted = environment.adopt(unpacked, self.recipe(tide), tmp_path / "e", Tools.of(environ, tmp_path))

        verbose = subprocess.run(
            [adopted.python, "-v", "-c", "import tide"], capture_output=True, text=True, check=True
        )

        assert f"matches {adopted.directory}" in verbose.stderr
        assert "tide/__init__.py" in verbose.stderr
        ran = [line for line in verbose.stderr.splitlines() if "code object from" in line and "tide" in line]
        assert ran
        assert all(line.endswith(".pyc'") for line in ran)

    def test_one_that_is_there_already_wins(
        self, tide: Tide, unpacked: Path, environ: dict[str, str]
    ) -> None:
        tools = Tools.of(environ, tide.environments)

        assert environment.adopt(unpacked, self.recipe(tide), tide.environments, tools) == tide.built
        assert not unpacked.exists()

    def test_something_else_is_refused(self, tide: Tide, environ: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "unpacked").mkdir()

        with pytest.raises(BuildError, match="is not an environment"):
            environment.adopt(
                tmp_path / "unpacked", self.recipe(tide), tmp_path / "e", Tools.of(environ, tmp_path)
            )

        assert environment.complete(tmp_path / "e", tide.built.digest, interpreters.find("", environ)) is None


def test_the_examples_lock_matches_its_pipfile_and_names_no_index(tmp_path: Path) -> None:
    project = payload(tmp_path, (EXAMPLE / "Pipfile").read_text(), (EXAMPLE / "Pipfile.lock").read_text())
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}

    verified = subprocess.run(
        [sys.executable, "-m", "pipenv", "verify"],
        cwd=project,
        env=variables,
        capture_output=True,
        check=False,
    )

    assert verified.returncode == 0
    lock = json.loads((project / "Pipfile.lock").read_text())
    assert lock["_meta"]["sources"] == []
    assert not any("index" in entry for entry in lock["default"].values())


@pytest.mark.net
def test_a_lock_without_sources_installs_from_the_index_of_this_machine(tmp_path: Path) -> None:
    model = payload(tmp_path / "payload", '[packages]\nsix = "*"\n')

    built = environment.of_payload(model, tmp_path / "environments", environ=os.environ)

    assert says(built, "import six; print(six.PY3)") == "True"
