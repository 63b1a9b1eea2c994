"""Compare: from what is there and what should be there to the steps in between. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cloudburst.commands import firewall
from cloudburst.errors import StackError
from cloudburst.stack.swarm import compose, machines
from cloudburst.stack.swarm.facts import MachineFacts, Node
from cloudburst.stack.swarm.images import Source
from cloudburst.stack.swarm.machines import File, Machine


@dataclass(frozen=True, repr=False)
class Wanted:
    """What should be there; secrets stay out of ``repr``."""

    stack: str
    machines: tuple[Machine, ...]
    files: Mapping[str, tuple[File, ...]]
    """By host."""
    registry: str
    """Image of the registry; "" for a stack of one machine that needs none."""
    repositories: str
    """What the names of the stack's images begin with."""
    sources: tuple[Source, ...]
    """The images to be made; others are given."""
    secrets: Mapping[str, str]
    """Contents, by Docker's name."""
    configs: Mapping[str, str]
    """Likewise."""
    firewalls: bool = True

    def reference(self, source: Source) -> str:
        return f"{self.repositories}{source.image}:{source.tag}"


@dataclass(frozen=True)
class MachinePlan:
    """The steps on one machine, in their order."""

    machine: Machine
    install: bool = False
    """Docker is not there."""
    start: bool = False
    """Docker does not run."""
    files: tuple[File, ...] = ()
    firewall: bool = False
    """The rules are to be put in force."""
    swarm: Literal["", "init", "join"] = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the node; "" takes one away."""

    @property
    def empty(self) -> bool:
        return not (self.install or self.start or self.files or self.firewall or self.swarm or self.labels)


@dataclass(frozen=True, repr=False)
class Plan:
    """The steps of a deployment."""

    machines: tuple[MachinePlan, ...]
    registry: bool
    """The registry is to be started, or started again."""
    build: tuple[Source, ...]
    push: tuple[Source, ...]
    """Those that are built, and not in the registry."""
    references: Mapping[str, str]
    """Images by digest, as far as they are there already, by our names."""
    secrets: tuple[str, ...]
    """Docker's names of those to be made."""
    configs: tuple[str, ...]
    stale_secrets: tuple[str, ...]
    """To be removed when no service uses them any more."""
    stale_configs: tuple[str, ...]


def plan(facts: Mapping[str, MachineFacts], wanted: Wanted) -> Plan:
    """What it takes to make the stack that is there the one that should be. Raises StackError for what
    must not be: a machine of another swarm, a node that is no longer named."""
    master = wanted.machines[0]
    there = facts[master.host]
    _check_master(master, there)
    nodes = {node.id: node for node in there.nodes}
    steps = tuple(_machine(one, facts[one.host], nodes, wanted) for one in wanted.machines)
    _check_left_out(there.nodes, facts, wanted)
    own = machines.directory(wanted.stack)
    registry = bool(wanted.registry) and (
        there.registry != wanted.registry or any(file.path.startswith(own) for file in steps[0].files)
    )
    references, build, push = {}, [], []
    for source in wanted.sources:
        identity, digest = there.images.get(wanted.reference(source), ("", ""))
        if not identity:
            build.append(source)
        elif not wanted.registry:
            references[source.image] = identity
        elif digest and there.registry:
            references[source.image] = f"{wanted.repositories}{source.image}@{digest}"
        else:
            push.append(source)
    return Plan(
        machines=steps,
        registry=registry,
        build=tuple(build),
        push=tuple(push),
        references=references,
        secrets=tuple(name for name in wanted.secrets if name not in there.secrets),
        configs=tuple(name for name in wanted.configs if name not in there.configs),
        stale_secrets=tuple(sorted(there.secrets - wanted.secrets.keys())),
        stale_configs=tuple(sorted(there.configs - wanted.configs.keys())),
    )


def why_deploy(facts: MachineFacts, stack: str, digest: str) -> str:
    """Why the services are to be deployed (again); "" when they are as they should be."""
    names = {f"{stack}_{service}" for service in compose.SERVICES}
    missing = sorted(names - facts.services.keys())
    if missing:
        short = ", ".join(name.removeprefix(f"{stack}_") for name in missing)
        return f"not there: {short}" if facts.services else "first deployment"
    for service in facts.services.values():
        if service.deployment != digest:
            return "changed"
        if service.update not in {"", "completed", "updating"}:
            return f"{service.name}: last update: {service.update}"
    return ""


def _machine(machine: Machine, facts: MachineFacts, nodes: Mapping[str, Node], wanted: Wanted) -> MachinePlan:
    if facts.silent:
        return MachinePlan(machine)
    files = tuple(file for file in wanted.files.get(machine.host, ()) if not file.is_there(facts))
    ours = {firewall.SCRIPT, firewall.SYSTEMD_UNIT, firewall.INIT_SCRIPT}
    inactive = facts.swarm_state in {"", "inactive"}
    node = nodes.get(facts.node_id)
    if not inactive and node is None:
        raise StackError(
            f"{machine.host} belongs to another swarm ({facts.swarm_state}{_because(facts)}); "
            "if nobody needs that: `docker swarm leave` there, then run this again"
        )
    labels = {
        name: value
        for name, value in machine.labels.items()
        if value != (node.labels.get(name, "") if node else "")
    }
    return MachinePlan(
        machine=machine,
        install=not facts.docker and not facts.docker_client,
        start=not facts.docker,
        files=files,
        firewall=wanted.firewalls and any(file.path in ours for file in files),
        swarm=("init" if machine.master else "join") if inactive else "",
        labels=labels,
    )


def _check_master(master: Machine, facts: MachineFacts) -> None:
    if facts.swarm_state == "locked":
        raise StackError(
            f"{master.host}: its swarm is locked: `docker swarm unlock` there, then run this again"
        )
    if facts.swarm_state in {"active", "pending"} and not facts.manager:
        raise StackError(
            f"{master.host} is a worker of another swarm{_because(facts)}: a stack's master is a manager; "
            "if nobody needs that: `docker swarm leave` there, then run this again"
        )
    if facts.swarm_state == "error":
        raise StackError(f"{master.host}: its swarm is broken{_because(facts)}")


def _because(facts: MachineFacts) -> str:
    return f": {facts.swarm_error}" if facts.swarm_error else ""


def _check_left_out(nodes: Sequence[Node], facts: Mapping[str, MachineFacts], wanted: Wanted) -> None:
    named = {facts[one.host].node_id for one in wanted.machines}
    left_out = [
        node.hostname
        for node in nodes
        if node.id not in named and any(name.startswith("cloudburst.") for name in node.labels)
    ]
    if left_out:
        first = left_out[0]
        raise StackError(
            f"{', '.join(left_out)}: still part of stack {wanted.stack}, and not among --hosts: "
            f"name it there, or take it out first: --drain {first}"
        )
