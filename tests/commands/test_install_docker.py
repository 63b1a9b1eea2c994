"""The script that installs Docker, on a machine that has just booted: apt and dpkg are stand-ins."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cloudburst.commands import machine

LISTS = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 812 (apt-get)"
ARCHIVES = "E: Could not get lock /var/cache/apt/archives/lock. It is held by process 812 (apt-get)"
FETCH = "Failed to fetch http://mirror.example/debian/dists/trixie/InRelease  Could not connect"
FRONTEND = "dpkg: error: dpkg frontend lock was locked by another process with pid 812"


@pytest.fixture
def booted(tmp_path: Path) -> Path:
    """A folder of programs that write down how they were called."""
    for name in ("dpkg", "apt-get", "apt-cache", "apt-mark", "docker", "sleep", "cloud-init"):
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


def install(folder: Path, *, system: bool = True) -> tuple[int, str, list[str]]:
    """``system``: whether the programs of this machine are there beside the stand-ins."""
    command = machine.install_docker()
    assert isinstance(command.stdin, str)
    done = subprocess.run(
        (shutil.which(command.argv[0]) or "sh", *command.argv[1:]),
        input=command.stdin,
        env={"PATH": f"{folder}:/usr/bin:/bin" if system else str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr, (folder / "calls").read_text().splitlines()


def test_docker_is_installed_when_the_first_boot_is_through(booted: Path) -> None:
    code, stderr, calls = install(booted)

    assert (code, stderr) == (0, "")
    assert calls[:3] == ["cloud-init status --wait", "dpkg --configure -a", "apt-get update -qq"]
    assert calls[-2].endswith(" docker.io iptables ca-certificates")
    assert "docker-cli" not in calls[-2]
    assert calls[-1] == "apt-mark hold docker.io containerd"


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


def when(word: str, does: str) -> str:
    """Shell code that is run if the program was called with that word."""
    return f'case " $* " in *" {word} "*)\n{does}\n;; esac'


def test_it_waits_for_the_lock_of_the_archives(booted: Path) -> None:
    program(booted, "apt-get", when("install", failing(booted, 3, ARCHIVES)))

    code, _, calls = install(booted)

    assert code == 0
    assert calls.count("sleep 5") == 3
    assert len([call for call in calls if " install " in call]) == 4


@pytest.mark.parametrize("word", ["update", "install"])
def test_a_mirror_that_is_away_is_asked_again(booted: Path, word: str) -> None:
    program(booted, "apt-get", when(word, failing(booted, 2, FETCH)))

    code, _, calls = install(booted)

    assert code == 0
    assert calls.count("sleep 5") == 2


def test_lists_that_were_not_fetched_are_fetched_again_although_apt_gives_0(booted: Path) -> None:
    program(
        booted, "apt-get", when("update", failing(booted, 2, f"W: {FETCH}").replace("exit 100", "exit 0"))
    )

    code, _, calls = install(booted)

    assert code == 0
    assert calls.count("apt-get update -qq") == 3


def test_a_mirror_that_stays_away_is_given_up(booted: Path) -> None:
    program(booted, "apt-get", when("install", failing(booted, 999, FETCH)))

    code, stderr, calls = install(booted)

    assert code != 0
    assert "Failed to fetch" in stderr
    assert calls.count("sleep 5") < 20
    assert "apt-mark hold docker.io containerd" not in calls


POLICY = """docker-cli:
  Installed: (none)
  Candidate: {candidate}
  Version table:"""


@pytest.mark.parametrize(("candidate", "wanted"), [("26.1.5+dfsg1-9+b4", True), ("(none)", False)])
def test_the_program_is_a_package_of_its_own_on_debian_13(booted: Path, candidate: str, wanted: bool) -> None:
    program(booted, "apt-cache", f"cat <<'END'\n{POLICY.format(candidate=candidate)}\nEND")

    code, _, calls = install(booted)

    assert code == 0
    assert (" docker-cli docker.io " in calls[-2]) == wanted


def test_a_docker_without_its_program_is_said(booted: Path) -> None:
    (booted / "docker").unlink()

    code, stderr, _ = install(booted, system=False)

    assert code != 0
    assert "brings no program docker" in stderr
