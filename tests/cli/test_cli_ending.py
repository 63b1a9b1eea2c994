"""``cloudburst stack watch``: results come home before a stack ends; and what cannot be elastic."""

from __future__ import annotations

import time
from pathlib import Path

from cloudburst.rqwire import ending
from cloudburst.rqwire.ending import Announcement
from tests.cli.shell import Shell
from tests.wait import wait_until


def test_results_are_saved_before_the_stack_ends(shell: Shell, tmp_path: Path) -> None:
    shell.add_stack("floods")
    ending.announce(shell.redis, Announcement("collecting", name="e1", reason="--ttl", said_at=time.time()))
    process = shell.start("stack", "watch", "--name", "floods", "--save-to", "saved")

    wait_until(lambda: ending.watchers(shell.redis), 60, "the client to be there")
    wait_until(
        lambda: [one.collected for one in ending.watchers(shell.redis).values()] == ["e1"],
        60,
        "all to be saved",
    )
    ending.announce(shell.redis, Announcement("removing", name="e1", said_at=time.time()))

    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "the stack ends now: --ttl; waits for clients that collect results" in err
    assert "all results are in saved" in err


def test_without_a_directory_it_says_what_to_say(shell: Shell) -> None:
    said = shell("stack", "watch", "--name", "local")

    assert said.returncode == 2
    assert "--save-to DIR" in said.stderr


def test_a_stack_on_this_machine_does_not_grow(shell: Shell) -> None:
    said = shell("stack", "elastic", "--local")

    assert said.returncode == 2
    assert "only stacks whose machines are made for them" in said.stderr
