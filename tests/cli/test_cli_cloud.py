"""``./buildstack.sh -n3`` and the rest, as a user runs it, at the fake provider; its machines are records."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudburst.stack.cloud import deploy
from cloudburst.stack.cloud.settings import Wishes
from tests.digitalocean.fake import FakeDigitalOcean
from tests.stack.cloud.parts import Swarm, home

COMMAND = [sys.executable, "-c", "from cloudburst.cli import main; main()", "stack"]


class Shell:
    def __init__(self, directory: Path, fake: FakeDigitalOcean) -> None:
        self.environ = {**home(directory, fake.environ), "COLUMNS": "100"}
        self.directory = directory

    def __call__(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env={**self.environ, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def answering(self, answer: str, *arguments: str) -> tuple[int, str]:
        """A command on a terminal, on which somebody answers once."""
        master, slave = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, *arguments], env=self.environ, stdin=slave, stdout=slave, stderr=slave
        ) as process:
            os.close(slave)
            os.write(master, f"{answer}\n".encode())
            seen = b""
            try:
                while data := os.read(master, 65536):
                    seen += data
            except OSError:  # how Linux says that the other end is closed
                pass
            os.close(master)
            return process.wait(60), seen.decode()

    def made(self, stack: str, nodes: int) -> None:
        deploy.up(
            self.environ,
            self.directory,
            stack,
            Wishes(nodes=nodes),
            lambda _line: None,
            swarm=Swarm(self.environ, stack),
        )


@pytest.fixture
def fake() -> Iterator[FakeDigitalOcean]:
    with FakeDigitalOcean() as fake:
        yield fake
        fake.check()


@pytest.fixture
def shell(tmp_path: Path, fake: FakeDigitalOcean) -> Shell:
    return Shell(tmp_path, fake)


def test_a_dry_run_prints_plan_and_price(shell: Shell, fake: FakeDigitalOcean) -> None:
    done = shell("up", "-n3", "--size", "c-8", "--max-cost", "1/h", "--dry-run")

    assert done.returncode == 0, done.stderr
    assert re.search(r"create +cloud-3 +c-8 +\$0.25 per hour", done.stderr)
    assert "price    $0.78571 per hour, $18.86 per day" in done.stderr
    assert done.stderr.endswith("nothing was created: this was a dry run\n")
    assert fake.account.left() == []


def test_without_a_terminal_nothing_is_done_unless_y_is_said(shell: Shell, fake: FakeDigitalOcean) -> None:
    created = shell("up", "-n1")
    shell.made("floods", 1)
    destroyed = shell("down", "--name", "floods")

    assert created.returncode == destroyed.returncode == 2
    assert created.stderr.endswith("create 2 machines? There is nobody to ask: add -y if that is meant\n")
    assert "destroy all of stack floods? There is nobody to ask: add -y" in destroyed.stderr
    assert fake.account.names() == ["floods-1", "floods-master"]


def test_no_is_an_answer(shell: Shell, fake: FakeDigitalOcean) -> None:
    code, seen = shell.answering("n", "up", "-n1")

    assert code == 130
    assert "create 2 machines? [y/N]" in seen
    assert fake.account.left() == []


def test_status_shows_ages_and_cost_and_what_is_left_over(shell: Shell, fake: FakeDigitalOcean) -> None:
    shell.made("cloud", 2)
    for droplet in fake.account.droplets:
        droplet.created_at -= 7200
    fake.account.power_off("cloud-1")

    done = shell("status")

    assert done.returncode == 4
    assert re.search(r"cloud-2 +s-2vcpu-4gb +\S+ +2 h 0 min +\$0.07 +\$0.03571", done.stdout)
    assert "cost      $0.21 so far; $0.10713 per hour, $2.57 per day" in done.stdout
    assert re.search(r"left over cloud-1 \(\d+\): powered off, and billed", done.stdout)


def test_down_proves_that_nothing_is_left(shell: Shell, fake: FakeDigitalOcean) -> None:
    shell.made("cloud", 1)
    for droplet in fake.account.droplets:
        droplet.created_at -= 3600 * 10

    done = shell("down", "-y")
    again = shell("down", "-y")

    assert done.returncode == 0, done.stderr
    assert "destroy  cloud-master" in done.stderr
    assert "stack cloud is gone: nothing of it is left at DigitalOcean. It has cost $0.71" in done.stderr
    assert fake.account.left() == []
    assert again.stderr == "nothing to do: there is no stack cloud at DigitalOcean, and none here\n"


def test_audit_shows_all_stacks_of_any_machine_and_destroys_the_one_that_is_named(
    shell: Shell, fake: FakeDigitalOcean, tmp_path: Path
) -> None:
    shell.made("floods", 1)
    other = Shell(tmp_path / "laptop", fake)
    other.made("storms", 0)

    shown = shell("audit")
    refused = shell("audit", "-y")
    done = shell("audit", "--name", "storms", "-y")

    assert re.search(r"floods +droplet +floods-1 +active", shown.stdout)
    assert re.search(r"storms +VPC +cloudburst-storms", shown.stdout)
    assert "3 machines in 2 stacks: $0.10713 per hour, $2.57 per day" in shown.stdout
    assert "audit -y needs --name" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert fake.account.names() == ["floods-1", "floods-master"]


def test_audit_asks_which_to_destroy(shell: Shell, fake: FakeDigitalOcean) -> None:
    shell.made("floods", 0)

    code, seen = shell.answering("none", "audit")

    assert code == 0
    assert "destroy which stack? (floods, all, none) [none]" in seen
    assert fake.account.names() == ["floods-master"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (["up", "-n3", "--redis-port", "1"], "--redis-port is not for stacks of machines at DigitalOcean"),
        (["up", "-n3", "--ssh-key", "x"], "--ssh-key is not for stacks of machines at DigitalOcean"),
        (["up", "--hosts", "root@a", "-n3"], "-n is not for stacks of --hosts"),
        (["up", "--local", "--size", "c-8"], "--size is not for stacks of --local"),
        (["up", "--local", "-n0"], "at least one slot"),
        (["up", "--name", "Floods", "-n1"], "small letters"),
        (["up", "-n1", "--max-cost", "5"], "per hour or per day, as 5/h or 50/d"),
    ],
)
def test_flags_of_others_are_refused(shell: Shell, said: list[str], reason: str) -> None:
    done = shell(*said)

    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_token_it_says_where_to_get_one(shell: Shell) -> None:
    none = shell("up", "-n3", DOTOKEN="")
    wrong = shell("up", "-n3", DOTOKEN="dop_v1_wrong")

    assert "for machines at DigitalOcean, give a token: export DOTOKEN=" in none.stderr
    assert "does not accept the token" in wrong.stderr
    assert "dop_v1_wrong" not in wrong.stderr


def test_status_of_a_stack_whose_end_was_cut_off_advises_to_end_it(
    shell: Shell, fake: FakeDigitalOcean
) -> None:
    shell.made("floods", 1)
    fake.fault("DELETE /v2/firewalls/*", "status", status=403, times=9)
    assert shell("down", "--name", "floods", "-y").returncode != 0
    fake.mend()

    status = shell("status", "--name", "floods")
    assert "stack floods was being destroyed; end that: ./buildstack.sh --name floods -d" in status.stdout
    assert "-n3" not in status.stdout
    down = shell("down", "--name", "floods", "-y")
    assert "It has cost $0.02" in down.stderr
    assert fake.account.left() == []
