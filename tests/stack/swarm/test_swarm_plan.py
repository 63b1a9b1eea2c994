"""From facts and what is wanted to steps: tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cloudburst.errors import StackError
from cloudburst.stack.swarm import compose, machines
from cloudburst.stack.swarm.facts import MachineFacts, Node, Service
from cloudburst.stack.swarm.images import Source
from cloudburst.stack.swarm.machines import File, Machine
from cloudburst.stack.swarm.plan import Plan, Wanted, plan, why_deploy

M = Machine("m", "10.0.0.1", master=True, worker=False, systemd=False)
A = Machine("a", "10.0.0.2", master=False, worker=True, systemd=False)
FILE = File("/etc/cloudburst/s/x", "text", 0o644)
SOURCE = Source("worker", "1234", {}, (), Path("/"))
REFERENCE = "10.0.0.1:5000/cloudburst/worker:1234"

WANTED = Wanted(
    stack="s",
    machines=(M, A),
    files={"m": (FILE,), "a": ()},
    registry="registry:2.8.3",
    repositories="10.0.0.1:5000/cloudburst/",
    sources=(SOURCE,),
    secrets={"s_x_1": "hush"},
    configs={"s_y_1": "{}"},
)


def node(name: str, **labels: str) -> Node:
    found = {label.replace("_", "."): value for label, value in labels.items()}
    return Node(f"id-{name}", name, "", "ready", "active", name == "m", found)


DOCKER = MachineFacts(docker_client=True, docker="20.10.24")
ACTIVE = replace(DOCKER, swarm_state="active")
MASTER = replace(
    ACTIVE,
    node_id="id-m",
    manager=True,
    registry="registry:2.8.3",
    images={REFERENCE: ("sha256:aa", "sha256:bb")},
    files={FILE.path: ("982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1", 0o644)},
    nodes=(node("m", cloudburst_master="true"), node("a", cloudburst_worker="true")),
    secrets=frozenset({"s_x_1"}),
    configs=frozenset({"s_y_1"}),
)
COMPUTE = replace(ACTIVE, node_id="id-a")


def steps(master: MachineFacts = MASTER, compute: MachineFacts = COMPUTE) -> Plan:
    return plan({"m": master, "a": compute}, WANTED)


def test_what_is_as_it_should_be_needs_nothing() -> None:
    found = steps()

    assert all(one.empty for one in found.machines)
    assert not found.registry
    assert (found.build, found.push, found.secrets, found.configs) == ((), (), (), ())
    assert (found.stale_secrets, found.stale_configs) == ((), ())
    assert found.references == {"worker": "10.0.0.1:5000/cloudburst/worker@sha256:bb"}


def test_nothing_is_done_on_a_node_that_does_not_answer() -> None:
    found = steps(compute=MachineFacts(node_id="id-a", swarm_address="10.0.0.2", silent=True))

    assert all(one.empty for one in found.machines)


def test_bare_machines_need_everything() -> None:
    found = steps(MachineFacts(), MachineFacts())

    master, compute = found.machines
    assert (master.install, master.start, master.swarm, master.files) == (True, True, "init", (FILE,))
    assert (compute.install, compute.start, compute.swarm) == (True, True, "join")
    assert dict(master.labels) == {"cloudburst.master": "true"}
    assert dict(compute.labels) == {"cloudburst.worker": "true"}
    assert found.registry
    assert found.build == (SOURCE,)
    assert (found.secrets, found.configs) == (("s_x_1",), ("s_y_1",))


@pytest.mark.parametrize(
    ("master", "step"),
    [
        (replace(MASTER, docker=""), lambda p: p.machines[0].start and not p.machines[0].install),
        (replace(MASTER, files={}), lambda p: p.machines[0].files == (FILE,) and p.registry),
        (replace(MASTER, registry=""), lambda p: p.registry and p.push == (SOURCE,) and not p.build),
        (replace(MASTER, images={REFERENCE: ("sha256:aa", "")}), lambda p: p.push == (SOURCE,)),
        (replace(MASTER, images={}), lambda p: p.build == (SOURCE,)),
        (replace(MASTER, secrets=frozenset({"s_x_0"})), lambda p: p.stale_secrets == ("s_x_0",)),
        (
            replace(MASTER, nodes=(node("m", cloudburst_master="true"), node("a"))),
            lambda p: dict(p.machines[1].labels) == {"cloudburst.worker": "true"},
        ),
        (
            replace(
                MASTER,
                nodes=(
                    node("m", cloudburst_master="true", cloudburst_worker="true"),
                    node("a", cloudburst_worker="true"),
                ),
            ),
            lambda p: dict(p.machines[0].labels) == {"cloudburst.worker": ""},
        ),
    ],
)
def test_what_is_missing_or_wrong_is_a_step(master: MachineFacts, step: object) -> None:
    assert callable(step)
    assert step(steps(master))


@pytest.mark.parametrize(
    ("master", "compute", "complaint"),
    [
        (replace(MASTER, manager=False), COMPUTE, "m is a worker of another swarm"),
        (replace(MASTER, swarm_state="locked"), COMPUTE, "docker swarm unlock"),
        (MASTER, replace(COMPUTE, node_id="id-other"), "a belongs to another swarm"),
        (
            replace(MASTER, nodes=(*MASTER.nodes, node("b", cloudburst_worker="true"))),
            COMPUTE,
            "b: still part of stack s, and not among --hosts.*--drain b",
        ),
    ],
)
def test_what_must_not_be_is_refused(master: MachineFacts, compute: MachineFacts, complaint: str) -> None:
    with pytest.raises(StackError, match=complaint):
        steps(master, compute)


def test_nodes_that_are_not_the_stacks_are_left_alone() -> None:
    assert steps(replace(MASTER, nodes=(*MASTER.nodes, node("theirs", role="db")))).machines


def services(**differences: object) -> dict[str, Service]:
    found = {f"s_{name}": Service(f"s_{name}", "d1", "", 1, 1) for name in compose.SERVICES}
    if differences:
        found["s_queue"] = replace(found["s_queue"], **differences)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (services(), ""),
        (services(update="completed"), ""),
        (services(running=0), ""),
        ({}, "first deployment"),
        ({name: one for name, one in services().items() if name != "s_queue"}, "not there: queue"),
        (services(deployment="d0"), "changed"),
        (services(update="rollback_completed"), "s_queue: last update: rollback_completed"),
    ],
)
def test_services_are_deployed_when_they_are_not_as_wanted(there: dict[str, Service], why: str) -> None:
    assert why_deploy(MachineFacts(services=there), "s", "d1") == why


def test_the_swarms_networks_keep_away_from_the_machines_own() -> None:
    facts = {"m": MachineFacts(addresses=(("eth1", "10.201.7.1"),)), "a": MachineFacts()}

    assert machines.pool((M, A), facts) == "172.29.0.0/16"
    assert machines.pool((M, A), {"m": MachineFacts(), "a": MachineFacts()}) == "10.201.0.0/16"
