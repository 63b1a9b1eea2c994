"""Streams to and from commands."""

from __future__ import annotations

import sys
import time

import pytest

from cloudburst.commands.command import Command
from cloudburst.errors import CommandError
from cloudburst.hosts.pipes import piped

Run = tuple[tuple[str, ...], Command]


def run(*argv: str, stdin: str | None = None, secrets: tuple[str, ...] = ()) -> Run:
    return argv, Command(argv, stdin=stdin, secrets=secrets)


def test_bytes_go_in_and_come_out_as_they_are():
    argv, command = run("cat", stdin="first\n")

    with piped("here", argv, command) as running:
        running.stdin.write(b"\0\xff")
        running.stdin.close()
        got = running.stdout.read()

    assert got == b"first\n\0\xff"


def test_a_command_that_fails_after_its_output_is_an_error_with_its_complaint_masked():
    argv, command = run("sh", "-c", "echo data; echo no such hunter2 >&2; exit 3", secrets=("hunter2",))

    with pytest.raises(CommandError) as failed, piped("there", argv, command) as running:
        assert running.stdout.read() == b"data\n"

    assert failed.value.host == "there"
    assert failed.value.command_exit_code == 3
    assert "no such ***" in str(failed.value)
    assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize(("status", "why"), [(4, "exit code 4"), (0, "before it had read all")])
def test_a_command_that_ends_before_it_has_read_everything_is_an_error(status: int, why: str):
    argv, command = run("sh", "-c", f"exit {status}")

    with pytest.raises(CommandError, match=why), piped("there", argv, command) as running:
        running.stdin.write(b"x" * 6_000_000)


def test_an_error_of_ours_kills_the_command():
    argv, command = run(sys.executable, "-c", "import time; time.sleep(60)")
    began = time.monotonic()

    with pytest.raises(ZeroDivisionError), piped("there", argv, command):
        raise ZeroDivisionError

    assert time.monotonic() - began < 10


def test_a_program_that_is_not_there_is_an_error_that_names_it():
    argv, command = run("/no/such/program")

    with pytest.raises(CommandError, match="/no/such/program cannot be run"), piped("there", argv, command):
        pass
