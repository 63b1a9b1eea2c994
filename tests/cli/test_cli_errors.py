"""What all commands have in common: errors, stacks, help, as real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import click

from cloudburst.cli import COMMANDS, cloudburst
from cloudburst.cli.payload import payload
from tests.cli.shell import SUBMIT, last_line
from tests.conftest import free_port


def test_errors_are_one_line_and_the_traceback_comes_when_asked_for(shell):
    plain, verbose = shell("watch", "storms"), shell("watch", "storms", "--verbose")

    assert (plain.returncode, plain.stdout) == (8, "")
    assert (
        plain.stderr == "cloudburst: no ensemble 'storms' here: `cloudburst status` lists those there are\n"
    )
    assert verbose.returncode == 8
    assert "Traceback (most recent call last)" in verbose.stderr
    assert last_line(verbose.stderr) == plain.stderr.rstrip()


def test_a_stack_is_chosen_by_option_and_by_environment_variable(shell):
    absent = shell("status", "--stack", "swarm")
    shell.add_stack("swarm")
    present = shell("status", "--stack", "swarm")
    shell.environ["CLOUDBURST_STACK"] = "elsewhere"
    elsewhere = shell("status")

    assert (absent.returncode, present.returncode, elsewhere.returncode) == (2, 0, 2)
    assert "no stack 'swarm' is known here" in absent.stderr
    assert "no stack 'elsewhere' is known here" in elsewhere.stderr


def test_a_queue_that_does_not_run_is_one_line(shell):
    shell.add_stack("away", redis_url=f"redis://:secret@127.0.0.1:{free_port()}/0")

    done = shell("status", "--stack", "away")

    assert done.returncode == 6
    assert len(done.stderr.splitlines()) == 1
    assert "does not answer" in done.stderr
    assert "./buildstack.sh --local" in done.stderr
    assert "secret" not in done.stderr


def test_a_wrong_token_is_one_line(shell):
    shell.add_stack("wrong", filestore_token="not-the-token")

    done = shell(*SUBMIT, "--stack", "wrong", stdin="{}\n")

    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1
    assert "not-the-token" not in done.stderr
    assert shell.stack.ensembles() == []


def test_a_file_store_that_does_not_run_is_one_line(shell):
    port = free_port()
    shell.add_stack("away", filestore_url=f"http://127.0.0.1:{port}")

    done = shell(*SUBMIT, "--stack", "away", stdin="{}\n")

    assert done.returncode == 5
    assert f"127.0.0.1:{port} does not answer" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_every_command_has_help_with_an_example():
    context = click.Context(cloudburst)
    names = [name for name in COMMANDS if name not in {"stack", "payload"}]
    examples = [(f"cloudburst {name}", cloudburst.get_command(context, name)) for name in names]
    examples += [(f"cloudburst payload {name}", command) for name, command in payload.commands.items()]

    for start, command in examples:
        assert start in command.help, start


def test_version_and_help_need_no_stack(tmp_path):
    environ = os.environ | {"CLOUDBURST_HOME": str(tmp_path / "nowhere")}

    def run(flag: str) -> str:
        command = [sys.executable, "-c", "from cloudburst.cli import main; main()", flag]
        return subprocess.check_output(command, env=environ, text=True)

    assert re.fullmatch(r"cloudburst \d+\.\d+\.\d+\n", run("--version"))
    assert "cloudburst results floods" in run("--help")


def test_without_a_terminal_it_is_said_what_would_be_asked(shell):
    stopped = shell("stack", "down", "--docker")
    purged = shell("stack", "down", "--local", "--purge")

    assert (stopped.returncode, purged.returncode) == (2, 2)
    assert stopped.stderr == (
        "cloudburst: Take down stack docker, on all its machines? "
        "There is nobody to ask: add -y if that is meant\n"
    )
    assert "Remove stack local with its results and files, /" in purged.stderr
    assert (shell.directory / "home" / "local" / "endpoints.json").exists()
