"""Identity of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cloudburst.hosts.process import Process, describe, with_variable
from tests.wait import wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def identify(pid: int) -> Process:
    process = Process.of(pid)
    assert process is not None
    return process


def test_a_process_is_alive_until_it_ends_even_while_it_is_a_zombie(child: subprocess.Popen[bytes]) -> None:
    process = identify(child.pid)
    assert process.is_alive()

    child.kill()
    wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, 5, "the zombie")

    assert not process.is_alive()
    assert Process.of(child.pid) is None


def test_another_process_with_the_same_pid_is_another_process(child: subprocess.Popen[bytes]) -> None:
    process = identify(child.pid)

    earlier = replace(process, born_s=process.born_s - 1)

    assert process.is_alive()
    assert not earlier.is_alive()


def test_what_ran_before_the_machine_started_is_known_as_such() -> None:
    now = identify(os.getpid())

    assert not now.is_from_before_boot()
    assert replace(now, started_at=psutil.boot_time() - 1).is_from_before_boot()


def test_descendants_are_children_and_their_children() -> None:
    nested = f"import subprocess, sys; subprocess.run({SLEEP!r})"
    parent = subprocess.Popen([sys.executable, "-c", nested])
    process = identify(parent.pid)

    (grandchild,) = wait_until(process.descendants, 5, "the child's child")

    assert grandchild.is_alive()
    assert process.memory_bytes() > psutil.Process(parent.pid).memory_info().rss
    psutil.Process(grandchild.pid).kill()
    parent.wait()
    assert process.descendants() == []


def test_processes_are_found_by_a_variable_of_their_environment(tmp_path: Path) -> None:
    environ = os.environ | {"CLOUDBURST_TEST_MARK": f"{tmp_path}/x"}
    marked = subprocess.Popen(SLEEP, env=environ)

    found = wait_until(lambda: with_variable({"CLOUDBURST_TEST_MARK": f"{tmp_path}/"}), 5, "the process")

    assert [process.pid for process in found] == [marked.pid]
    assert with_variable({"CLOUDBURST_TEST_MARK": f"{tmp_path}/y"}) == []
    marked.kill()
    marked.wait()


def test_a_process_is_described_by_name_and_pid() -> None:
    assert describe(os.getpid()) == f"{psutil.Process().name()} (pid {os.getpid()})"
    assert describe(2**22 + 1) == f"pid {2**22 + 1}"
