"""The virtual machines themselves: what the other tests of the swarm take for granted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.swarm import cache, images
from tests.swarm.cgroups import Cgroups
from tests.swarm.machines import Farm, Machine
from tests.swarm.process import Failed, run
from tests.wait import wait_until

STACK = """\
version: "3.8"
services:
  web:
    image: debian:bookworm-slim
    init: true
    command: [perl, -MIO::Socket::INET, -e, '
      $$l = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die;
      while ($$c = $$l->accept) { print $$c "from the node\\n"; close $$c }']
    networks: [between]
    ports: [{target: 80, published: 8000, mode: host}]
    deploy: {endpoint_mode: dnsrr, placement: {constraints: [node.role == worker]}}
  asks:
    image: debian:bookworm-slim
    init: true
    command: [sleep, infinity]
    networks: [between]
    deploy: {placement: {constraints: [node.role == manager]}, endpoint_mode: dnsrr}
networks:
  between: {driver: overlay}
"""


@pytest.fixture(scope="module")
def bare(farm: Farm) -> Iterator[Machine]:
    machine = farm.machine("bare", cpus={0})
    yield machine
    machine.remove()


def test_machines_with_a_second_device_meet_on_it(farm: Farm, bare: Machine) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAWXzuHiLcnrVlqUVTmUIRcNlUCiYjEHmPNCx4ZRIQ5d of-another"
    names = ("of-a-stack-with-a-long-name-1", "of-a-stack-with-a-long-name-2")
    one, two = (farm.machine(name, cpus={0}, keys=[key], private=True) for name in names)

    assert key in one.run(["cat", "/root/.ssh/authorized_keys"]).stdout.splitlines()
    assert two.run(["hostname"]).stdout == f"{names[1]}\n"
    assert two.private_address in two.run(["ip", "-br", "address", "show", "eth1"]).stdout
    asked = ["bash", "-c", f"head -c 4 </dev/tcp/{two.private_address}/22"]
    assert one.run(asked).stdout == "SSH-"
    assert bare.run(asked, check=False, timeout_s=20).returncode != 0
    assert bare.run(["ip", "link", "show", "eth1"], check=False).returncode != 0
    two.cut_network()
    with pytest.raises(Failed):
        one.run(asked, timeout_s=3)
    for machine in (one, two):
        machine.remove()


@pytest.fixture(scope="module")
def pair(farm: Farm) -> Iterator[tuple[Machine, Machine]]:
    """Two machines with Docker, as one swarm: manager and worker."""

    def made(name: str, cpu: int) -> Machine:
        machine = farm.machine(name, cpus={cpu})
        images.install_docker(machine)
        return machine

    with ThreadPoolExecutor() as both:
        manager, worker = both.map(made, ("first", "second"), (0, 1))
    manager.run(["docker", "swarm", "init", "--advertise-addr", manager.address])
    token = manager.run(["docker", "swarm", "join-token", "-q", "worker"]).stdout.strip()
    worker.run(["docker", "swarm", "join", "--token", token, f"{manager.address}:2377"])
    yield manager, worker
    for machine in (manager, worker):
        machine.remove()


def test_a_machine_is_bare(bare: Machine) -> None:
    processes = bare.run(["ps", "-eo", "args="]).stdout.splitlines()
    of_the_login = ("sshd: root@", "ps -eo")
    others = [process for process in processes if not process.startswith(of_the_login)]

    assert [process.split(" ")[0] for process in others] == ["/bin/bash", "sshd:"]
    assert bare.run(["sh", "-c", "command -v docker dockerd"], check=False).returncode != 0
    assert bare.run(["hostname"]).stdout == "bare\n"
    assert bare.run(["nproc"]).stdout == "1\n"


def test_a_machine_sees_its_own_disk_only(bare: Machine, farm: Farm) -> None:
    mounts = [line.split(" ") for line in bare.run(["cat", "/proc/self/mounts"]).stdout.splitlines()]
    on_disk = {mount[1] for mount in mounts if mount[0].startswith("/dev/") or mount[2] == "overlay"}

    assert on_disk == {"/", "/var/lib/docker", "/var/lib/containerd"}
    assert bare.run(["ls", str(farm.directory)], check=False).returncode != 0
    assert bare.run(["ls", "-A", "/.old"], check=False).returncode != 0
    assert bare.run(["ls", "-A", "/var/lib/docker", "/var/lib/containerd"]).stdout.split() == [
        "/var/lib/containerd:",
        "/var/lib/docker:",
    ]


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/run"])
def test_a_machine_has_its_own_folders_for_passing_things(bare: Machine, folder: str) -> None:
    bare.run(["touch", f"{folder}/of-the-machine"])

    assert (bare.root / folder[1:] / "of-the-machine").exists()
    assert not Path(folder, "of-the-machine").exists()


def test_a_machine_cannot_set_the_clock_that_it_shares(bare: Machine) -> None:
    with pytest.raises(Failed, match="cannot set date"):
        bare.run(["date", "--set", "+1 sec"])


def test_what_is_enabled_for_boot_runs_at_boot_and_files_stay(bare: Machine) -> None:
    bare.run(
        ["sh", "-c", "cat >/etc/init.d/greets && chmod +x /etc/init.d/greets && update-rc.d greets defaults"],
        stdin=b"#!/bin/sh\n### BEGIN INIT INFO\n# Provides: greets\n# Required-Start:\n# Required-Stop:\n"
        b"# Default-Start: 2 3 4 5\n# Default-Stop:\n### END INIT INFO\necho $1 >>/root/greetings\n",
    )
    before = bare.pid
    bare.power_off()
    bare.boot()

    assert bare.pid != before
    wait_until(
        lambda: bare.run(["cat", "/root/greetings"], check=False).stdout == "start\n", 10, "a greeting"
    )


def test_containers_are_the_machines_own(pair: tuple[Machine, Machine]) -> None:
    manager, _ = pair
    manager.run(["docker", "run", "-d", "--name", "inside", images.BASE, "sleep", "infinity"])

    def inside(*argv: str) -> str:
        return manager.run(["docker", "exec", "inside", *argv]).stdout

    assert inside("nproc") == "1\n"
    assert inside("cat", "/proc/1/cmdline").split("\0")[:2] == ["sleep", "infinity"]
    assert "/dev/pts" in inside("cat", "/proc/mounts")
    assert (
        inside("hostname")
        == manager.run(["docker", "inspect", "-f", "{{.Config.Hostname}}", "inside"]).stdout
    )
    manager.run(["docker", "rm", "-f", "inside"])


def test_a_stack_spans_machines_and_comes_back_after_a_power_cut(pair: tuple[Machine, Machine]) -> None:
    manager, worker = pair
    manager.run(["docker", "stack", "deploy", "-c", "-", "s"], stdin=STACK.encode())

    def answers() -> bool:
        container = manager.run(["docker", "ps", "-qf", "name=s_asks"]).stdout.strip()
        over_the_overlay = manager.run(
            ["docker", "exec", container, "bash", "-c", "head -1 </dev/tcp/web/80"], check=False, timeout_s=20
        )
        on_the_node = run(
            ["bash", "-c", f"head -1 </dev/tcp/{worker.address}/8000"], check=False, timeout_s=20
        )
        return over_the_overlay.stdout == on_the_node.stdout == "from the node\n"

    wait_until(answers, 90, "the service to answer by name and by its port")

    for machine in (worker, manager):
        machine.power_off()
    assert worker.run(["true"], check=False).returncode != 0
    for machine in (manager, worker):
        machine.boot()

    wait_until(answers, 120, "the service to answer again")
    assert manager.engine_pid
    manager.run(["docker", "stack", "rm", "s"])


def test_a_network_that_is_cut_lets_nothing_through_until_it_is_mended(bare: Machine) -> None:
    bare.cut_network()
    with pytest.raises(Failed):
        bare.run(["true"])

    bare.mend_network()
    wait_until(lambda: bare.run(["true"], check=False).returncode == 0, 20, "the machine to be reached")


def traces(farm: Farm) -> dict[str, list[str]]:
    """What there is of a farm here, as others see it."""
    links = [link["ifname"] for link in json.loads(run(["ip", "-json", "link"]).stdout)]
    rules = run(["iptables-save"]).stdout.splitlines()
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return {
        "processes": [str(pid) for pid in Cgroups(farm.name).processes()],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{farm.name}")],
        "links": [name for name in links if name.startswith((farm.network.name, f"cbf{farm.number}-"))],
        "rules": [rule for rule in rules if farm.network.name in rule],
        "mounts": [mount for mount in mounts if farm.name in mount],
        "disks": [str(path) for path in cache.directory().glob(f"{farm.name}*")],
    }


def test_a_farm_that_is_closed_leaves_nothing() -> None:
    with Farm() as farm:
        farm.machine("only", private=True)
        while_open = traces(farm)
    after = traces(farm)

    assert [kind for kind, found in while_open.items() if not found] == [
        "mounts"
    ]  # they are the machine's own
    assert len(while_open["links"]) == 4  # two bridges, two cables
    assert len(while_open["rules"]) == 5
    assert {kind: found for kind, found in after.items() if found} == {}


CRASHING = """
import sys
from tests.swarm.machines import Farm
with Farm() as farm:
    farm.machine("only")
    print(farm.number, flush=True)
    sys.stdin.read()
"""


def test_a_farm_that_crashed_stops_at_once_and_is_swept_away_by_the_next() -> None:
    crashing = subprocess.Popen(
        [sys.executable, "-c", CRASHING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert crashing.stdout is not None
    number = int(crashing.stdout.readline())
    crashed = Cgroups(f"cloudburst-farm-{number}")
    assert crashed.processes()

    os.kill(crashing.pid, signal.SIGKILL)
    crashing.wait()
    wait_until(lambda: not crashed.processes(), 10, "its machines to end with it")

    with Farm() as farm:
        assert farm.number <= number
        assert not (cache.directory() / f"cloudburst-farm-{number}" / "only").exists()
