"""A stack comes onto a bare machine, whatever interrupts that; changes as it is told; and leaves nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudburst import config
from cloudburst.errors import QueueError
from tests.swarm.conftest import Measured
from tests.swarm.deployed import NAME, Deployed
from tests.swarm.machines import Farm

LISTS = (
    "docker volume ls -q",
    "docker ps -aq",
    "docker network ls --format {{.Name}}",
    "docker image ls --format {{.Repository}}",
    "find /etc/cloudburst /etc/docker/certs.d /usr/local/lib/cloudburst /etc/init.d /etc/rc2.d",
    "iptables-save",
)
"""What a machine has of what a stack may leave."""


@pytest.fixture(scope="module")
def one(farm: Farm) -> Iterator[Deployed]:
    """A bare machine of its own, that a stack is to come onto."""
    machine = farm.machine("c", {0, 1})
    one = Deployed(farm, [machine])
    one.environ["CLOUDBURST_HOME"] = str(farm.directory / "home-of-one")
    yield one
    machine.remove()


def services(one: Deployed) -> str:
    """Version of each service: changes with whatever is changed."""
    template = "{{.Spec.Name}} {{.Version.Index}}"
    script = f"docker service inspect --format '{template}' $(docker service ls -q) | sort"
    return one.master.run(["sh", "-c", script]).stdout


def test_a_dry_run_prints_every_command_and_changes_nothing(one: Deployed) -> None:
    said = one.run("up", "--dry-run")

    for command in (
        "install-docker",
        "docker swarm init",
        "docker build",
        "docker push",
        "docker stack deploy",
    ):
        assert f"c$ {command}" in said or command in said
    assert "nothing was changed" in said
    assert one.master.run(["sh", "-c", "command -v docker"], check=False).stdout == ""
    assert "PRIVATE KEY" not in said


@pytest.mark.parametrize(
    "moment",
    ["installing Docker", "starting a swarm", "starting the registry", "building the image", "deploying"],
)
def test_a_deployment_may_be_killed_at_any_moment(one: Deployed, moment: str) -> None:
    """The next test's is the one that completes it."""
    child = one.start("up")
    assert child.stdout is not None
    for line in child.stdout:
        if moment in line:
            time.sleep(1)
            break
    child.send_signal(signal.SIGKILL if moment != "building the image" else signal.SIGINT)
    child.communicate(timeout=60)

    assert child.returncode != 0
    assert not (config.stack_dir(one.environ, NAME) / "endpoints.json").exists()


def test_the_next_run_completes_it_and_a_second_one_changes_nothing(
    one: Deployed, measured: Measured
) -> None:
    said = one.run("up")
    assert "deployed in" in said
    before = services(one)

    began = time.monotonic()
    again = one.run("up")
    measured("a second run that changes nothing, one machine", time.monotonic() - began)

    assert "nothing to do: stack swarm runs as it should" in again
    assert services(one) == before


def test_what_is_kept_here_is_for_this_user_only(one: Deployed) -> None:
    directory = config.stack_dir(one.environ, NAME)

    for path in [
        directory / "endpoints.json",
        directory / "settings.json",
        *(directory / "secrets").iterdir(),
    ]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_password_that_is_removed_here_is_replaced_everywhere(one: Deployed) -> None:
    old = one.stack()
    old.workers()
    (config.stack_dir(one.environ, NAME) / "secrets/redis-client").unlink()

    one.run("up")

    assert one.stack().workers()
    with pytest.raises(QueueError):
        type(old)(old.endpoints).workers()
    listed = one.master.run(["docker", "secret", "ls", "--format", "{{.Name}}"]).stdout
    assert listed.count("swarm_queue_acl_") == 1


def test_a_failed_step_says_where_what_and_why(one: Deployed) -> None:
    one.environ["CLOUDBURST_IMAGE_QUEUE"] = "localhost/no-such-image:1"
    try:
        said = one.run("up", check=False, timeout_s=300)
    finally:
        one.environ["CLOUDBURST_IMAGE_QUEUE"] = ""

    assert "swarm_queue" in said
    assert "no-such-image" in said
    one.run("up")


def test_nothing_is_left_of_a_stack_that_is_purged(one: Deployed) -> None:
    one.run("down", "--purge", "-y")

    for command in LISTS:
        left = one.master.run(command.split(), check=False).stdout.lower().replace("cloudburst-tests/", "")
        for trace in ("cloudburst", "swarm", "gwbridge"):
            assert trace not in left, f"{command}: {left}"
    assert "inactive" in one.master.run(["docker", "info", "--format", "{{.Swarm.LocalNodeState}}"]).stdout
    assert not config.stack_dir(one.environ, NAME).exists()
    assert os.listdir(Path(one.environ["CLOUDBURST_HOME"])) == [f".{NAME}.lock"]
