"""A stack comes onto a bare machine, whatever interrupts that; changes as it is told; and leaves nothing."""

from __future__ import annotations

import os
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudburst import config
from cloudburst.errors import QueueError
from cloudburst.filestore.client import FileStore
from tests.certificates import Authority
from tests.swarm.conftest import Measured
from tests.swarm.deployed import NAME, Deployed
from tests.swarm.machines import Farm, Machine

OPERATOR = "op"

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
    """A bare machine of its own, that a stack is to come onto, by a user who is not root.

    With a certificate for its gateway by an authority that nobody knows, and a network that is named.
    """
    machine = farm.machine("c", {0, 1})
    one = Deployed(farm, [machine])
    one.environ["CLOUDBURST_HOME"] = str(farm.directory / "home-of-one")
    add_operator(machine)
    one.hosts = f"{OPERATOR}@c"
    certificate, key = company_certificate(farm, machine)
    one.options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--private-interface", "eth0")
    yield one
    machine.remove()


def add_operator(machine: Machine) -> None:
    """A user who logs in with the farm's key, and may use sudo without a password."""
    machine.run(["useradd", "--create-home", "--shell", "/bin/bash", OPERATOR])
    machine.run(["install", "-d", "-m", "700", "-o", OPERATOR, f"/home/{OPERATOR}/.ssh"])
    keys = f"/home/{OPERATOR}/.ssh/authorized_keys"
    machine.run(["install", "-m", "600", "-o", OPERATOR, "/root/.ssh/authorized_keys", keys])
    rule = f"{OPERATOR} ALL=(ALL) NOPASSWD: ALL\n".encode()
    machine.run(["install", "-m", "440", "/dev/stdin", f"/etc/sudoers.d/{OPERATOR}"], stdin=rule)


def company_certificate(farm: Farm, machine: Machine) -> tuple[Path, Path]:
    """Files of a certificate with its chain, and of its key."""
    authority = Authority.make(farm.directory / "company")
    certificate, key = authority.issue("gateway", f"IP:{machine.address},DNS:c")
    chain = certificate.with_name("chain.pem")
    chain.write_text(certificate.read_text() + authority.certificate.read_text())
    return chain, key


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
    assert os.listdir(one.environ["CLOUDBURST_HOME"]) == [f".{NAME}.lock"]


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


def test_the_gateway_presents_the_certificate_that_was_given_and_clients_trust_it(one: Deployed) -> None:
    where = one.stack().endpoints
    chain = Path(one.options[1]).read_text()
    presented = ssl.get_server_certificate((one.master.address, 443))

    assert where.filestore_url == f"https://{one.master.address}"
    assert chain.startswith(presented)
    trusted = Path(where.ca_file).read_text()
    own = (config.stack_dir(one.environ, NAME) / "secrets/ca.crt").read_text()
    assert trusted.startswith(own + chain)
    # The queue's is the stack's own, the file store is behind the gateway: both by the same ca.pem.
    assert one.stack().workers()
    assert FileStore(where.filestore_url, where.filestore_token, ca_file=where.ca_file).put("greeting", b"hi")
    assert "certificate expires in" in one.run("status")


def test_a_network_interface_that_is_not_there_is_named(one: Deployed) -> None:
    said = one.run("up", "--private-interface", "eth7", check=False)

    assert "c: --private-interface: it has no eth7 with an address (there are eth0" in said


def test_a_certificate_for_another_name_is_refused_before_anything_is_changed(
    one: Deployed, farm: Farm
) -> None:
    before = services(one)
    certificate, key = Authority.make(farm.directory / "other").issue("gateway", "DNS:elsewhere.example")

    said = one.run("up", "--tls-cert", str(certificate), "--tls-key", str(key), check=False)

    assert f"is for elsewhere.example, and clients reach this stack at {one.master.address}" in said
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

    # The next one mends it, and does what else is wanted.
    one.environ["CLOUDBURST_RETENTION"] = "90d"
    said = one.run("up")

    assert "keeping the stack's measurements for 90 days" in said
    assert one.stack().workers()


GUEST = """
set -e
image=$(docker service inspect swarm_observer --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}')
docker service create --detach --name guest --network swarm_stack --entrypoint sleep "$image" 60
(sleep 5; docker service rm guest) >/dev/null 2>&1 &
"""


def test_nothing_is_left_of_a_stack_that_is_purged(one: Deployed) -> None:
    # For a moment, a task of somebody else's uses one of its networks.
    one.master.run(["sh", "-c", GUEST])

    one.run("down", "--purge", "-y")

    for command in LISTS:
        left = one.master.run(command.split(), check=False).stdout.lower().replace("cloudburst-tests/", "")
        for trace in ("cloudburst", "swarm", "gwbridge"):
            assert trace not in left, f"{command}: {left}"
    assert "inactive" in one.master.run(["docker", "info", "--format", "{{.Swarm.LocalNodeState}}"]).stdout
    assert not config.stack_dir(one.environ, NAME).exists()
    assert os.listdir(Path(one.environ["CLOUDBURST_HOME"])) == [f".{NAME}.lock"]
