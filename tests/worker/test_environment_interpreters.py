"""Pythons on PATH: found by asking them, whatever stands there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cloudburst.errors import BuildError
from cloudburst.worker import interpreters


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def python(path: Path, version: str) -> Path:
    return script(path, f'echo \'["{path}", "{version}", "linux-x86_64-cpython"]\'')


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """PATH with two folders of Pythons, shims that fail, and things that are none."""
    python(tmp_path / "a" / "python3.99", "3.99.1")
    python(tmp_path / "b" / "python3.99", "3.99.4")
    python(tmp_path / "b" / "python3.98", "3.98.0")
    script(tmp_path / "a" / "python3.97", "echo 'pyenv: python3.97: command not found' >&2; exit 127")
    script(tmp_path / "a" / "python3.96", "echo hello")
    python(tmp_path / "a" / "python3-config", "3.95.0")
    python(tmp_path / "a" / "python3.94", "3.94.0").chmod(0o644)
    (tmp_path / "a" / "python3").symlink_to("python3.99")
    return {"PATH": f"{tmp_path}/a:{tmp_path}/gone:{tmp_path}/b"}


def test_those_that_answer_are_found_once(environ: dict[str, str]) -> None:
    versions = sorted(interpreter.version for interpreter in interpreters.installed(environ))

    assert versions == ["3.98.0", "3.99.1", "3.99.4"]


def test_the_newest_that_fits_is_chosen(environ: dict[str, str], tmp_path: Path) -> None:
    assert interpreters.find("3.99", environ).path == tmp_path / "b" / "python3.99"
    assert interpreters.find("3.99.1", environ).path == tmp_path / "a" / "python3.99"


@pytest.mark.parametrize("wanted", ["", "3", f"3.{sys.version_info.minor}"])
def test_cloudbursts_own_is_preferred_outside_of_its_virtual_environment(
    environ: dict[str, str], wanted: str
) -> None:
    own = interpreters.find(wanted, environ)

    assert own.version == ".".join(map(str, sys.version_info[:3]))
    assert own.path.is_relative_to(sys.base_prefix)
    assert os.path.realpath(sys.executable) == str(own.path)


@pytest.mark.parametrize("wanted", ["3.97", "3.9", "3.99.2", "4"])
def test_one_that_is_not_there_is_an_error_with_those_that_are(environ: dict[str, str], wanted: str) -> None:
    with pytest.raises(BuildError) as caught:
        interpreters.find(wanted, environ)

    own = ".".join(map(str, sys.version_info[:3]))
    assert f"requires Python {wanted}, which is not on this node" in caught.value.args[0]
    assert f"(found: {own}, 3.98.0, 3.99.1, 3.99.4)" in caught.value.args[0]
