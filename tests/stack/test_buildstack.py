"""buildstack.sh: from the user's flags to ``cloudburst stack``, with an environment that is there already."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout, in a folder with a space, whose ``cloudburst`` prints what it is asked to do."""
    checkout = tmp_path / "my checkout"
    (checkout / ".venv/bin").mkdir(parents=True)
    for name in ("buildstack.sh", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(REPOSITORY / name, checkout)
    (checkout / ".venv/bin/python").symlink_to(sys.executable)
    cloudburst = checkout / ".venv/bin/cloudburst"
    cloudburst.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    cloudburst.chmod(0o755)
    made_from = f"{checkout}\n".encode() + b"".join(
        (checkout / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")
    )
    stamp = subprocess.run(["cksum"], input=made_from, capture_output=True, check=True).stdout
    (checkout / ".venv/cloudburst.stamp").write_bytes(stamp)
    return checkout


def run(checkout: Path, *arguments: str) -> list[str]:
    done = subprocess.run(
        [str(checkout / "buildstack.sh"), *arguments], cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        (["--local"], ["up", "--local"]),
        (["--local", "-n", "3"], ["up", "--local", "-n", "3"]),
        (["--local", "-n3", "--name", "floods"], ["up", "--local", "-n3", "--name", "floods"]),
        (["--local", "--status"], ["status", "--local"]),
        (["--status", "--local"], ["status", "--local"]),
        (["--local", "-d"], ["down", "--local"]),
        (["--local", "-d", "--purge", "-y"], ["down", "--local", "--purge", "-y"]),
        (["--local", "--name", "two words"], ["up", "--local", "--name", "two words"]),
        (["-n3"], ["up", "-n3"]),
        (["-n", "3", "--max-cost", "5/h", "-y"], ["up", "-n", "3", "--max-cost", "5/h", "-y"]),
        (["-n3", "--name", "floods", "--dry-run"], ["up", "-n3", "--name", "floods", "--dry-run"]),
        (["-d"], ["down"]),
        (["-d", "-y", "--name", "floods"], ["down", "-y", "--name", "floods"]),
        (["--status"], ["status"]),
        (["audit"], ["audit"]),
        (["audit", "--name", "floods", "-y"], ["audit", "--name", "floods", "-y"]),
        (["-n3", "--name", "audit"], ["up", "-n3", "--name", "audit"]),
        (["--docker"], ["up", "--docker"]),
        (["--hosts", "root@m,root@a", "--dry-run"], ["up", "--hosts", "root@m,root@a", "--dry-run"]),
        (["--name", "swarm", "--logs", "queue", "-f"], ["logs", "--name", "swarm", "queue", "-f"]),
        (["--hosts", "m", "--scale", "a=4"], ["scale", "--hosts", "m", "a=4"]),
        (
            ["--hosts", "m", "--logs", "worker", "--node", "a"],
            ["logs", "--hosts", "m", "worker", "--node", "a"],
        ),
    ],
)
def test_flags_become_a_command_of_the_stack(checkout: Path, said: list[str], asked: list[str]) -> None:
    assert run(checkout, *said) == ["stack", *asked]


def test_what_another_python_needs_does_not_reach_ours(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    (checkout / ".venv/bin/cloudburst").write_text(
        '#!/bin/sh\nenv | grep ^PYTHONH || echo none; echo "${PYTHONPATH-none}"\n'
    )

    assert run(checkout, "--local", "--status") == ["none", "none"]


@pytest.mark.parametrize("said", [[], ["-h"], ["--local", "--help"]])
def test_help_needs_no_environment(tmp_path: Path, said: list[str]) -> None:
    shutil.copy(REPOSITORY / "buildstack.sh", tmp_path)

    page = run(tmp_path, *said)

    assert page[0] == "buildstack.sh: start and stop a CloudBurst stack"
    assert max(len(line) for line in page) <= 72
    assert not (tmp_path / ".venv").exists()


def test_an_environment_that_is_there_is_not_made_again(checkout: Path) -> None:
    assert run(checkout, "--setup") == []


def test_a_python_that_cannot_make_environments_says_what_to_install(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "buildstack.sh", tmp_path)
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for name in ("pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(REPOSITORY / name, tmp_path)

    done = subprocess.run(
        [str(tmp_path / "buildstack.sh"), "--local"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": "python3"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("virtual environments; on Debian and Ubuntu: apt-get install python3-venv")
    assert not (tmp_path / ".venv").exists()
