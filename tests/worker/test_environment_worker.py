"""What a client sees of a build: a real worker, and its ensembles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.conftest import MiniStack
from tests.worker.package_index import PackageIndex, make_wheel
from tests.worker.test_environment_access import locked, pipenv_lock

pytestmark = pytest.mark.slow

CODE = "import levee\n\ndef work(p):\n    return levee.VERSION\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackageIndex]:
    """``levee`` 1.0, and 2.0 which imports what it does not declare."""
    folder = tmp_path_factory.mktemp("wheels")
    wheels = [
        make_wheel(folder, "levee", "1.0"),
        make_wheel(folder, "levee", "2.0", code="import six_of_one\n"),
    ]
    server = PackageIndex(folder, wheels)
    yield server
    server.close()


@pytest.fixture(scope="module")
def served(stack: MiniStack, index: PackageIndex) -> MiniStack:
    stack.worker(PIP_INDEX_URL=index.url, CLOUDBURST_BUILD_TOKEN="s3cr3t-t0ken")
    return stack


def payload(folder: Path, version: str, **files: str) -> Path:
    folder.mkdir()
    (folder / "Pipfile").write_text(f'[packages]\nlevee = "=={version}"\n')
    (folder / "worker.py").write_text(CODE)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def why(stack: MiniStack, digest: str) -> str:
    """Why an ensemble with that payload failed as a whole."""
    ensemble = stack.submit("worker.work", {}, digest=digest)
    stack.wait(ensemble)
    return stack.ensembles.status(ensemble).error


def test_an_undeclared_dependency_is_named_with_who_needs_it(served: MiniStack, tmp_path: Path) -> None:
    error = why(served, served.upload(payload(tmp_path / "p", "2.0")))

    assert "levee needs six_of_one without saying so: add the package that brings it" in error


def test_a_build_that_fails_fails_its_ensemble_within_seconds_and_no_other(
    served: MiniStack, index: PackageIndex, tmp_path: Path
) -> None:
    model = payload(tmp_path / "p", "1.0")
    text = locked(levee=index.wheels[0]).text.replace(index.wheel_hash("levee", "1.0"), "0" * 64)
    (model / "Pipfile.lock").write_text(pipenv_lock(model, text))
    started = time.monotonic()

    error = why(served, served.upload(model))

    assert "levee==1.0 on the package index has not the hash that the Pipfile.lock says" in error
    assert time.monotonic() - started < 45  # of which pipenv and uv take three on an idle machine
    good = served.wait(
        served.submit("worker.work", {}, digest=served.upload(payload(tmp_path / "good", "1.0")))
    )
    assert [record.value for record in good] == ["1.0"]


def test_a_debian_package_that_is_missing_fails_before_anything_is_asked(
    served: MiniStack, index: PackageIndex, tmp_path: Path
) -> None:
    asked = len(index.requests)
    model = payload(tmp_path / "p", "1.0", cloudburst_toml='apt = ["libnosuch-c1v5"]\n')

    error = why(served, served.upload(model))

    assert "cloudburst.toml: apt: not installed on this node: libnosuch-c1v5: bake them" in error
    assert len(index.requests) == asked


def test_what_is_given_to_builds_is_not_there_for_jobs(served: MiniStack, tmp_path: Path) -> None:
    model = payload(tmp_path / "p", "1.0")
    (model / "worker.py").write_text("import os\n\ndef work(p):\n    return sorted(os.environ.items())\n")

    (record,) = served.wait(served.submit("worker.work", {}, digest=served.upload(model)))

    assert record.state == "finished"
    assert "s3cr3t-t0ken" not in str(record.value)
    assert "s3cr3t-t0ken" not in served.log("worker-state")
