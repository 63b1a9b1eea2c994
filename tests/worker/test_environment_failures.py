"""What cannot be installed, in the tools' own words under a line that says what to do."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import setuptools

from cloudburst.errors import BuildError
from cloudburst.worker import environment, system_packages
from cloudburst.worker.dependencies import Lock
from tests.worker.package_index import PackageIndex, make_sdist
from tests.worker.test_environment_access import build, locked, payload

pytestmark = pytest.mark.slow

RAINFALL = '[packages]\nrainfall = "*"\n'


@pytest.fixture
def environ(index: PackageIndex, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "home").mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "PIP_INDEX_URL": index.url}


@pytest.fixture
def silent() -> Iterator[str]:
    """An index that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def installing(folder: Path, environ: Mapping[str, str], text: str, lock: Lock) -> BuildError:
    with pytest.raises(BuildError) as caught:
        build(folder, text, lock, environ)
    assert list((folder / "environments").rglob(".venv")) == []
    return caught.value


def resolving(folder: Path, environ: Mapping[str, str], text: str) -> BuildError:
    model = payload(folder / "payload", text)
    with pytest.raises(BuildError) as caught:
        environment.of_payload(model, folder / "environments", environ=environ)
    assert list((folder / "environments").rglob(".venv")) == []
    return caught.value


class TestInstalling:
    def test_a_version_that_the_index_no_longer_has(
        self, index: PackageIndex, environ: dict[str, str], tmp_path: Path
    ) -> None:
        lock = Lock(locked(rainfall=index.wheels[1]).text.replace("==1.1", "==7.7"))

        error = installing(tmp_path, environ, RAINFALL, lock)

        assert "no version matches: the package index has no rainfall==7.7 for Python 3." in error.args[0]
        assert "there is no version of rainfall==7.7" in error.tail

    def test_another_hash(self, index: PackageIndex, environ: dict[str, str], tmp_path: Path) -> None:
        text = locked(rainfall=index.wheels[1], tide=index.wheels[2]).text
        lock = Lock(text.replace(index.hash_of("tide"), "0" * 64))

        error = installing(tmp_path, environ, RAINFALL, lock)

        assert "tide==2.0 on the package index has not the hash that the Pipfile.lock says" in error.args[0]
        assert f"sha256:{'0' * 64}" in error.tail
        assert f"sha256:{index.hash_of('tide')}" in error.tail

    def test_an_index_that_never_answers(
        self, index: PackageIndex, environ: dict[str, str], tmp_path: Path, silent: str
    ) -> None:
        environ |= {"PIP_INDEX_URL": f"http://{silent}/simple", "PIP_TIMEOUT": "1"}

        error = installing(tmp_path, environ, RAINFALL, locked(rainfall=index.wheels[1]))

        assert f"the package index at {silent} does not answer (timed out)" in error.args[0]

    def test_an_index_that_is_not_there(
        self, index: PackageIndex, environ: dict[str, str], tmp_path: Path, refusing: str
    ) -> None:
        environ |= {"PIP_INDEX_URL": f"http://{refusing}/simple"}
        started = time.monotonic()

        error = installing(tmp_path, environ, RAINFALL, locked(rainfall=index.wheels[1]))

        assert f"the package index at {refusing} does not answer (Connection refused)" in error.args[0]
        assert time.monotonic() - started < 30

    def test_no_index_at_all(self, index: PackageIndex, environ: dict[str, str], tmp_path: Path) -> None:
        environ |= {"PIP_NO_INDEX": "1"}

        error = installing(tmp_path, environ, RAINFALL, locked(rainfall=index.wheels[1]))

        assert "no index may be asked (PIP_NO_INDEX), and rainfall is not where" in error.args[0]

    def test_a_package_that_needs_a_compiler_where_there_is_none(
        self, index: PackageIndex, environ: dict[str, str], tmp_path: Path
    ) -> None:
        sdist = make_sdist(tmp_path, "pump", "1.0", EXTENSION)
        index.wheels.append(sdist)
        lock = locked_sdist("pump", sdist)
        environ |= {"PATH": str(path_without_compiler(tmp_path / "bin"))}

        error = installing(tmp_path, environ, '[packages]\npump = "*"\n', lock)

        assert "pump==1.0 has no wheel for Python 3." in error.args[0]
        assert "needs a compiler, which this node does not have" in error.args[0]
        assert "--build-arg APT=build-essential ." in error.args[0]
        assert "No such file or directory: 'gcc'" in error.tail


class TestResolving:
    def test_a_version_that_there_never_was(self, environ: dict[str, str], tmp_path: Path) -> None:
        error = resolving(tmp_path, environ, '[packages]\nrainfall = "==9"\n')

        assert "no version matches: the package index has no rainfall==9 for Python 3." in error.args[0]
        assert "(from versions: 1.0, 1.1)" in error.tail

    def test_packages_that_exclude_each_other(self, environ: dict[str, str], tmp_path: Path) -> None:
        error = resolving(tmp_path, environ, '[packages]\nrainfall = "==1.0"\ntide = "*"\n')

        assert "The user requested rainfall==1.0; tide 2.0 depends on rainfall>=1.1" in error.args[0]

    def test_an_index_that_never_answers(self, environ: dict[str, str], tmp_path: Path, silent: str) -> None:
        environ |= {"PIP_INDEX_URL": f"http://{silent}/simple", "PIP_TIMEOUT": "1", "PIP_RETRIES": "1"}

        error = resolving(tmp_path, environ, RAINFALL)

        assert f"the package index at {silent} does not answer" in error.args[0]

    def test_an_index_that_is_not_there(self, environ: dict[str, str], tmp_path: Path, refusing: str) -> None:
        environ |= {"PIP_INDEX_URL": f"http://{refusing}/simple"}

        error = resolving(tmp_path, environ, RAINFALL)

        assert f"the package index at {refusing} does not answer (Connection refused)" in error.args[0]


EXTENSION = {
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    # setuptools as it is, without an index that has it.
    "backend.py": (
        f"import sys\nsys.path.append({str(Path(setuptools.__file__).parents[1])!r})\n"
        "from setuptools.build_meta import *\n"
    ),
    "setup.py": (
        "from setuptools import Extension, setup\n"
        'setup(name="pump", version="1.0", ext_modules=[Extension("pump", ["pump.c"])])\n'
    ),
    "pump.c": "int nothing;\n",
}


def locked_sdist(name: str, sdist: Path) -> Lock:
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    entry = f'{{"version": "==1.0", "hashes": ["sha256:{digest}"]}}'
    return Lock(f'{{"_meta": {{"sources": []}}, "default": {{"{name}": {entry}}}}}')


def path_without_compiler(folder: Path) -> Path:
    folder.mkdir()
    for name in ("sh", "env", "ls"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


class TestSystemPackages:
    pytestmark = pytest.mark.skipif(
        shutil.which("dpkg-query") is None, reason="asks the packages of a Debian system"
    )

    def test_those_that_are_there_are_enough(self) -> None:
        system_packages.check(("dpkg", "libc6"), os.environ)

    def test_those_that_are_missing_are_named_with_the_way_to_bake_them_into_an_image(self) -> None:
        with pytest.raises(BuildError) as caught:
            system_packages.check(("dpkg", "libnosuch-c1v5", "other-dev"), os.environ)

        assert "not installed on this node: libnosuch-c1v5, other-dev" in caught.value.args[0]
        assert (
            "docker build -f images/worker/Dockerfile --build-arg 'APT=libnosuch-c1v5 other-dev'"
            in caught.value.args[0]
        )


def test_where_debian_is_not_no_package_of_it_is_installed(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="not installed on this node: libc6"):
        system_packages.check(("libc6",), {"PATH": str(tmp_path)})
