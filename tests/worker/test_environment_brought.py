"""Packages that a payload brings itself, while strangers have taken their names on the index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudburst.commands import pipenv
from cloudburst.errors import BuildError
from cloudburst.worker import environment
from cloudburst.worker.environment import Environment
from tests.worker.package_index import PackageIndex, make_wheel

pytestmark = pytest.mark.slow

BACKEND = """
import os, pathlib, zipfile
HERE = pathlib.Path(__file__).parent
NAME = HERE.name
METADATA = "Metadata-Version: 2.1\\nName: %s\\nVersion: 0.1\\nProvides-Extra: fast\\n" % NAME
for line in (HERE / "needs.txt").read_text().splitlines():
    METADATA += "Requires-Dist: %s\\n" % line.replace("HERE", HERE.as_uri())

def get_requires_for_build_wheel(settings=None):
    return []

def prepare_metadata_for_build_wheel(folder, settings=None):
    info = pathlib.Path(folder, NAME + "-0.1.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    return info.name

def build_wheel(folder, settings=None, metadata=None):
    info = NAME + "-0.1.dist-info/"
    with zipfile.ZipFile(os.path.join(folder, NAME + "-0.1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr(NAME + "/__init__.py", "VERSION = 'own'")
        wheel.writestr(info + "METADATA", METADATA)
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return NAME + "-0.1-py3-none-any.whl"

get_requires_for_build_editable = get_requires_for_build_wheel
prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel
build_editable = build_wheel
"""


def make_package(folder: Path, needs: str = "rainfall\n") -> None:
    """A package called like its folder that builds without any tool."""
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND)
    (folder / "needs.txt").write_text(needs)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackageIndex]:
    """An index where others have taken all the names."""
    folder = tmp_path_factory.mktemp("strangers")
    names = ("mylib", "sub", "libs", "wheels", "x")
    found = PackageIndex(
        folder, [make_wheel(folder, "rainfall", "1.1"), *(make_wheel(folder, name, "9.0") for name in names)]
    )
    yield found
    found.close()


class Builder:
    def __init__(self, folder: Path, index: PackageIndex) -> None:
        self.payload = folder / "payload"
        self.index = index
        self._folder = folder
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PIP_INDEX_URL": index.url,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        make_package(self.payload / "mylib")

    def __call__(self, entries: str, lock: str = "") -> Environment:
        (self.payload / "Pipfile").write_text(f"[packages]\n{entries}\n")
        if lock:
            (self.payload / "Pipfile.lock").write_text(lock)
        self.index.requests.clear()
        return environment.of_payload(self.payload, self._folder / "environments", environ=self._environ)

    def asked_for(self, name: str) -> list[str]:
        return [path for path in self.index.requests if f"/{name}/" in path]

    def hash_of(self, entries: str) -> str:
        folder = self._folder / "hash"
        folder.mkdir()
        (folder / "Pipfile").write_text(f"[packages]\n{entries}\n")
        command = pipenv.pipfile_hash(sys.executable, folder)
        environ = {**self._environ, **command.env, "PIP_CONFIG_FILE": os.devnull}
        environ.pop("PIP_INDEX_URL")
        done = subprocess.run(
            command.argv, env=environ, cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


@pytest.fixture
def build(tmp_path: Path, strangers: PackageIndex) -> Builder:
    return Builder(tmp_path, strangers)


def version(environment: Environment, name: str) -> str:
    code = f"import {name}; print({name}.VERSION)"
    done = subprocess.run([environment.python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "entry",
    [
        '{path = "mylib"}',
        '{file = "mylib", editable = true}',
        '{path = "./other/../mylib", extras = ["fast"], index = "pypi"}',
    ],
)
def test_a_folder_of_the_payload_is_installed_and_never_a_strangers_package(
    build: Builder, entry: str
) -> None:
    built = build(f"mylib = {entry}")

    assert version(built, "mylib") == "own"
    assert version(built, "rainfall") == "1.1"  # what it needs is locked with it
    assert build.asked_for("mylib") == []
    lock = json.loads((built.directory / "Pipfile.lock").read_text())
    assert lock["default"]["mylib"]["path"] == "./mylib"
    assert len(lock["default"]["rainfall"]["hashes"]) == 1


def test_a_folder_in_a_folder_whose_name_has_a_space(build: Builder) -> None:
    make_package(build.payload / "my libs" / "sub")

    built = build('sub = {path = "my libs/sub"}')

    assert version(built, "sub") == "own"
    assert build.asked_for("sub") == []


def test_a_wheel_of_the_payload_is_looked_up_there_and_not_where_the_worker_runs(build: Builder) -> None:
    make_wheel(build.payload / "wheels", "x", "0.1", ("rainfall",))

    built = build('x = {file = "wheels/x-0.1-py3-none-any.whl"}')

    assert (version(built, "x"), version(built, "rainfall")) == ("0.1", "1.1")
    assert build.asked_for("x") == build.asked_for("wheels") == []


def test_what_a_package_of_the_payload_needs_from_the_payload_comes_from_there_too(build: Builder) -> None:
    make_package(build.payload / "libs" / "sub", needs="")
    (build.payload / "mylib" / "needs.txt").write_text("sub @ HERE/../libs/sub\n")

    built = build('mylib = {path = "mylib"}')

    assert (version(built, "mylib"), version(built, "sub")) == ("own", "own")
    assert build.asked_for("sub") == build.asked_for("libs") == []


def test_a_lock_that_the_user_has_made_with_a_strangers_hash_in_it(build: Builder) -> None:
    entries = 'mylib = {path = "mylib"}'
    lock = {
        "_meta": {
            "hash": {"sha256": build.hash_of(entries)},
            "pipfile-spec": 6,
            "requires": {},
            "sources": [],
        },
        "default": {"mylib": {"hashes": [f"sha256:{build.index.hash_of('mylib')}"], "path": "mylib"}},
        "develop": {},
    }

    built = build(entries, json.dumps(lock))

    assert version(built, "mylib") == "own"
    assert build.asked_for("mylib") == []


def test_a_lock_that_was_made_for_it_is_one_of_the_payloads_own_pipfile(build: Builder) -> None:
    entries = 'mylib = {path = "mylib", sys_platform = "== \'linux\'"}'
    made = (build(entries).directory / "Pipfile.lock").read_text()

    again = build(entries, made)  # as from `cloudburst payload lock`

    assert version(again, "mylib") == "own"


@pytest.mark.parametrize(
    "entry",
    [
        '{path = "../mylib"}',
        '{file = "file:///opt/mylib"}',
        '{path = "nosuch"}',
        '{path = "mylib/backend.py"}',
    ],
)
def test_what_is_not_in_the_payload_is_refused_and_no_index_is_asked(build: Builder, entry: str) -> None:
    (build.payload.parent / "mylib").mkdir()

    with pytest.raises(BuildError, match=r"Pipfile: \[packages\] mylib: "):
        build(f"mylib = {entry}")

    assert build.index.requests == []


def test_a_lock_that_names_a_file_elsewhere_is_refused(build: Builder) -> None:
    lock = {"_meta": {}, "default": {"mylib": {"file": "file:///opt/mylib"}}}

    with pytest.raises(BuildError, match=r"Pipfile.lock: \[default\] mylib: 'file:///opt/mylib' leads out"):
        build('mylib = "*"', json.dumps(lock))


def test_a_lock_that_names_a_folder_where_the_pipfile_names_none_is_not_that_of_the_pipfile(
    build: Builder,
) -> None:
    lock = {"_meta": {}, "default": {"mylib": {"path": "./mylib"}}}

    with pytest.raises(BuildError, match=r"Pipfile\.lock does not match the Pipfile"):
        build('mylib = "*"', json.dumps(lock))


def test_a_package_for_another_system_is_not_installed_from_whatever_the_index_has(build: Builder) -> None:
    built = build('mylib = {version = "*", sys_platform = "== \'win32\'"}')

    assert version(built, "mylib") == ""
    assert build.asked_for("mylib") == []
