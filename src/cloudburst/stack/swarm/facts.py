"""Read: what is there of a stack on its machines, in one round trip each."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """A node of a swarm, as its manager knows it."""

    id: str
    hostname: str
    address: str
    state: str
    """``ready`` or ``down``, as a rule."""
    availability: str
    manager: bool
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Service:
    """A service of the stack, as the swarm's manager knows it."""

    name: str
    deployment: str
    """Digest of the deployment that it is from."""
    update: str
    """State of its last update: ``updating``, ``completed``, ``paused``, ``rollback_completed``...; or ""."""
    running: int
    wanted: int

    @property
    def settled(self) -> bool:
        """All of it runs, and nothing is being changed. What ran on a node that is down counts as running."""
        return self.running >= self.wanted and self.update in {"", "completed"}


@dataclass(frozen=True)
class MachineFacts:
    """One machine as it is."""

    os: str = ""
    os_name: str = ""
    hostname: str = ""
    reached_at: str = ""
    """Its address as it itself sees it, of the connection by which it was asked; "" without one."""
    addresses: tuple[tuple[str, str], ...] = ()
    """Its network interfaces' addresses, without those of Docker's: (interface, address)."""
    cpus: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    disk_free_bytes: int = 0
    systemd: bool = False
    files: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """SHA-256 and mode of those of the files in question that exist."""
    docker_client: bool = False
    docker: str = ""
    """Version of the engine; "" when there is none, or it does not run."""
    swarm_state: str = ""
    """``inactive``, ``pending``, ``active``, ``locked`` or ``error``."""
    swarm_error: str = ""
    node_id: str = ""
    manager: bool = False
    swarm_address: str = ""
    managers: tuple[str, ...] = ()
    """Addresses of the swarm's managers, without ports."""
    registry: str = ""
    """Image of the stack's registry, if that runs here."""
    volumes: frozenset[str] = frozenset()
    images: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """The stack's images here, by reference: ID, and digest in the registry ("" if it is not there)."""
    nodes: tuple[Node, ...] = ()
    services: Mapping[str, Service] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    configs: frozenset[str] = frozenset()
    silent: bool = False
    """It does not answer: this is what was remembered of it."""

    def address_of(self, interface: str) -> str:
        """First IPv4 address of that interface, else its first; "" if it has none."""
        found = [address for name, address in self.addresses if name.partition("@")[0] == interface]
        return next((address for address in found if ":" not in address), found[0] if found else "")


_DOCKERS = ("docker", "br-", "veth", "vxlan", "cni")


def parse(printed: str) -> MachineFacts:
    """What ``commands.machine.facts`` has printed."""
    said: dict[str, list[str]] = defaultdict(list)
    for line in printed.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            said[name].append(value)

    def one(name: str) -> str:
        return said[name][0] if said[name] else ""

    swarm: dict[str, Any] = json.loads(one("swarm") or "{}")
    connection = one("connection").split()
    running, _, registry = one("registry").partition(" ")
    addresses = [tuple(value.split(" ", 1)) for value in said["address"]]
    return MachineFacts(
        os=one("os"),
        os_name=one("os_name"),
        hostname=one("hostname"),
        reached_at=connection[2] if len(connection) == 4 else "",
        addresses=tuple((name, address) for name, address in addresses if not name.startswith(_DOCKERS)),
        cpus=int(one("cpus") or 0),
        memory_bytes=int(one("memory_kb") or 0) * 1024,
        disk_bytes=int(one("disk_kb") or 0) * 1024,
        disk_free_bytes=int(one("disk_free_kb") or 0) * 1024,
        systemd=bool(one("systemd")),
        files=dict(_file(value) for value in said["file"]),
        docker_client=bool(one("docker_client")),
        docker=one("docker"),
        swarm_state=swarm.get("LocalNodeState", ""),
        swarm_error=swarm.get("Error", ""),
        node_id=swarm.get("NodeID", ""),
        manager=bool(swarm.get("ControlAvailable")),
        swarm_address=swarm.get("NodeAddr", ""),
        managers=tuple(one["Addr"].rpartition(":")[0] for one in swarm.get("RemoteManagers") or ()),
        registry=registry if running == "true" else "",
        volumes=frozenset(said["volume"]),
        images=dict(_image(value) for value in said["image"]),
        nodes=tuple(_node(json.loads(value)) for value in said["node"]),
        services=_services(said["service"], said["replicas"]),
        secrets=frozenset(said["secret"]),
        configs=frozenset(said["config"]),
    )


def _file(value: str) -> tuple[str, tuple[str, int]]:
    digest, mode, path = value.split(" ", 2)
    return path, (digest, int(mode, 8))


def _image(value: str) -> tuple[str, tuple[str, str]]:
    reference, digest, identity = value.split(" ")
    return reference, (identity, "" if digest == "<none>" else digest)


def _node(raw: dict[str, Any]) -> Node:
    return Node(
        id=raw["ID"],
        hostname=raw["Description"]["Hostname"],
        address=raw["Status"].get("Addr", ""),
        state=raw["Status"]["State"],
        availability=raw["Spec"]["Availability"],
        manager=raw["Spec"]["Role"] == "manager",
        labels=raw["Spec"].get("Labels") or {},
    )


def _services(specs: list[str], replicas: list[str]) -> dict[str, Service]:
    counts: dict[str, tuple[int, int]] = {}
    for line in replicas:
        raw = json.loads(line)
        # "1/2", or for a service that runs to an end "1/2 (0/1 completed)"
        running, _, wanted = raw["Replicas"].split(" ")[0].partition("/")
        counts[raw["Name"]] = (int(running), int(wanted))
    found = {}
    for line in specs:
        name, labels, update = json.loads(f"[{line}]")
        running_now, wanted_now = counts.get(name, (0, -1))
        found[name] = Service(
            name=name,
            deployment=(labels or {}).get("cloudburst.deployment", ""),
            update=(update or {}).get("State") or "",
            running=running_now,
            wanted=wanted_now,
        )
    return found
