"""What a machine prints, read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from cloudburst.commands import machine
from cloudburst.stack.swarm import facts

NODE = {
    "ID": "abc",
    "Description": {"Hostname": "m"},
    "Status": {"State": "ready", "Addr": "10.0.0.1"},
    "Spec": {"Role": "manager", "Availability": "active", "Labels": {"cloudburst.master": "true"}},
}
PRINTED = f"""os=debian
os_name=Debian GNU/Linux 12 (bookworm)
machine=x86_64
hostname=m
connection=10.9.9.9 44564 10.0.0.1 22
cpus=2
memory_kb=1000
disk_kb=2000
disk_free_kb=500
address=eth0 10.0.0.1
address=docker0 172.17.0.1
address=eth1@if5 10.1.0.1
file=ff00 600 /etc/cloudburst/s/a file
docker_client=Docker version 20.10.24
docker=20.10.24
swarm={{"NodeID":"abc","NodeAddr":"10.0.0.1","LocalNodeState":"active","ControlAvailable":true,"Error":""}}
registry=true registry:2.8.3
volume=s_queue
image=10.0.0.1:5000/cloudburst/worker:12 sha256:bb sha256:aa
image=10.0.0.1:5000/cloudburst/queue:34 <none> sha256:cc
node={json.dumps(NODE)}
service="s_queue",{{"cloudburst.deployment":"d1"}},{{"State":"updating"}}
service="s_worker",null,null
replicas={{"Name":"s_queue","Replicas":"0/1"}}
replicas={{"Name":"s_worker","Replicas":"3/3"}}
secret=s_x_1
config=s_y_1
"""


def test_what_is_printed_becomes_facts() -> None:
    found = facts.parse(PRINTED)

    assert (found.os, found.hostname, found.cpus, found.memory_bytes) == ("debian", "m", 2, 1024000)
    assert found.reached_at == "10.0.0.1"
    assert found.addresses == (("eth0", "10.0.0.1"), ("eth1@if5", "10.1.0.1"))
    assert found.address_of("eth1") == "10.1.0.1"
    assert found.files == {"/etc/cloudburst/s/a file": ("ff00", 0o600)}
    assert (found.docker, found.swarm_state, found.manager, found.node_id) == (
        "20.10.24",
        "active",
        True,
        "abc",
    )
    assert found.registry == "registry:2.8.3"
    assert found.images == {
        "10.0.0.1:5000/cloudburst/worker:12": ("sha256:aa", "sha256:bb"),
        "10.0.0.1:5000/cloudburst/queue:34": ("sha256:cc", ""),
    }
    assert [(node.hostname, node.manager) for node in found.nodes] == [("m", True)]
    assert not found.services["s_queue"].settled
    assert found.services["s_queue"].deployment == "d1"
    assert found.services["s_worker"].settled
    assert (found.secrets, found.configs) == ({"s_x_1"}, {"s_y_1"})


def test_a_machine_without_docker_says_what_it_is(tmp_path: Path) -> None:
    command = machine.facts("s")

    # With a PATH that has what every machine has, but no docker.
    done = subprocess.run(
        command.argv,
        input=str(command.stdin),
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": without_docker(tmp_path)},
    )

    found = facts.parse(done.stdout)
    assert found.hostname == os.uname().nodename
    assert found.cpus == len(os.sched_getaffinity(0))
    assert found.memory_bytes > 0
    assert found.disk_free_bytes > 0
    assert (found.docker_client, found.docker, found.swarm_state) == (False, "", "")


def without_docker(directory: Path) -> str:
    for program in ("sh", "uname", "nproc", "sed", "df", "tail", "ip", "sha256sum", "stat", "cut"):
        found = shutil.which(program)
        if found:
            (directory / program).symlink_to(found)
    return str(directory)
