"""The script that installs Docker, on a machine that has just booted: apt and dpkg are stand-ins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cloudburst.commands import machine

LISTS = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 812 (apt-get)"
FRONTEND = "dpkg: error: dpkg frontend lock was locked by another process with pid 812"


@pytest.fixture
def booted(tmp_path: Path) -> Path:
    """A folder of programs that write down how they were called."""
    for name in ("dpkg", "apt-get", "sleep", "cloud-init"):
        program(tmp_path, name, "")
    return tmp_path


def program(folder: Path, name: str, does: str) -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\n{does}\n')
    path.chmod(0o755)


def failing(folder: Path, times: int, message: str) -> str:
    """Shell code that fails that often, with that message, and then no more."""
    return (
        f'n=$(cat {folder}/n 2>/dev/null || echo 0); n=$((n + 1)); echo "$n" >{folder}/n\n'
        f"[ $n -gt {times} ] || {{ echo '{message}' >&2; exit 100; }}"
    )


def install(folder: Path) -> tuple[int, str, list[str]]:
    command = machine.install_docker()
    assert isinstance(command.stdin, str)
    done = subprocess.run(
        command.argv,
        input=command.stdin,
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr, (folder / "calls").read_text().splitlines()


def test_docker_is_installed_when_the_first_boot_is_through(booted: Path) -> None:
    code, stderr, calls = install(booted)

    assert (code, stderr) == (0, "")
    assert calls[:3] == ["cloud-init status --wait", "dpkg --configure -a", "apt-get update -qq"]
    assert calls[-1].endswith("docker.io iptables ca-certificates")


@pytest.mark.parametrize(("who", "message"), [("apt-get", LISTS), ("dpkg", FRONTEND)])
def test_it_waits_for_whoever_holds_a_lock(booted: Path, who: str, message: str) -> None:
    program(booted, who, failing(booted, 3, message))

    code, _, calls = install(booted)

    assert code == 0
    assert calls.count("sleep 5") == 3


def test_another_failure_is_not_waited_for(booted: Path) -> None:
    program(booted, "apt-get", failing(booted, 1, "E: The repository is not signed."))

    code, stderr, calls = install(booted)

    assert code != 0
    assert "is not signed" in stderr
    assert "sleep 5" not in calls
