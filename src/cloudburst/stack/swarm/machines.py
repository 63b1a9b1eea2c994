"""The stack's machines: who is the master, how they reach one another, which files each has to have."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloudburst.commands import firewall
from cloudburst.errors import StackError
from cloudburst.stack.swarm.certificates import Certificates
from cloudburst.stack.swarm.facts import MachineFacts
from cloudburst.stack.swarm.settings import Settings

REGISTRY_PORT = 5000
REGISTRY_IMAGE = "registry:2.8.3"

_POOLS = ("10.201.0.0/16", "172.29.0.0/16", "192.168.224.0/19", "10.61.0.0/16")
"""Where the overlay networks may take their addresses from: the first that holds no machine's own."""


@dataclass(frozen=True)
class Machine:
    """One machine of the stack."""

    host: str
    """Name of its Host."""
    address: str
    """By which the other machines reach it."""
    master: bool
    worker: bool
    """Whether jobs run on it."""
    systemd: bool

    @property
    def labels(self) -> dict[str, str]:
        return {
            "cloudburst.master": "true" if self.master else "",
            "cloudburst.worker": "true" if self.worker else "",
        }


@dataclass(frozen=True)
class File:
    """A file that a machine has to have."""

    path: str
    contents: str
    mode: int

    def is_there(self, facts: MachineFacts) -> bool:
        digest = hashlib.sha256(self.contents.encode()).hexdigest()
        return facts.files.get(self.path) == (digest, self.mode)

    def __repr__(self) -> str:
        return f"File({self.path!r})"


def decide(
    hosts: Sequence[str], facts: Mapping[str, MachineFacts], settings: Settings
) -> tuple[Machine, ...]:
    """The machines, the master first. Raises StackError when one has no address to be reached at."""
    found = []
    for index, host in enumerate(hosts):
        found.append(
            Machine(
                host=host,
                address=_address(host, facts[host], settings),
                master=index == 0,
                worker=index > 0 or len(hosts) == 1,
                systemd=facts[host].systemd,
            )
        )
    for machine in found:
        same = [other.host for other in found if other.address == machine.address]
        if len(same) > 1:
            raise StackError(f"--hosts: {' and '.join(same)} are the same machine ({machine.address})")
    return tuple(found)


def _address(host: str, facts: MachineFacts, settings: Settings) -> str:
    if settings.kind == "docker":
        # A swarm of one listens to itself; a laptop's other addresses come and go.
        return facts.swarm_address or "127.0.0.1"
    if facts.silent:
        return facts.swarm_address
    if settings.private_interface:
        address = facts.address_of(settings.private_interface)
        if not address:
            there = ", ".join(sorted({name for name, _ in facts.addresses}))
            raise StackError(
                f"{host}: --private-interface: it has no {settings.private_interface} with an address "
                f"(there are {there})"
            )
        return address
    return facts.reached_at


def names(
    master: Machine, host_names: Sequence[str], facts: MachineFacts, settings: Settings
) -> tuple[str, ...]:
    """All names and addresses by which the master may be reached; for its certificate."""
    # A laptop's addresses come and go with its networks, and nobody else uses its stack.
    addresses = [address for _, address in facts.addresses] if settings.kind == "hosts" else []
    inside = ("localhost", "127.0.0.1", "queue", "gateway")
    found = [*host_names, facts.hostname, master.address, *addresses, *inside]
    return tuple(dict.fromkeys(name for name in found if name))


def pool(machines: Sequence[Machine], facts: Mapping[str, MachineFacts]) -> str:
    """Where the swarm's networks take their addresses from."""
    taken = [
        ipaddress.ip_address(address)
        for machine in machines
        for address in (machine.address, *(own for _, own in facts[machine.host].addresses))
    ]
    for candidate in _POOLS:
        network = ipaddress.ip_network(candidate)
        if not any(address in network for address in taken if address.version == 4):
            return candidate
    return _POOLS[0]


def registry_name(stack: str) -> str:
    return f"cloudburst-{stack}-registry"


def registry_address(master: Machine) -> str:
    address = f"[{master.address}]" if ":" in master.address else master.address
    return f"{address}:{REGISTRY_PORT}"


def directory(stack: str) -> str:
    """Where a machine keeps what it is given, apart from what must be elsewhere."""
    return f"/etc/cloudburst/{stack}"


def files(
    stack: str, machine: Machine, machines: Sequence[Machine], certificates: Certificates
) -> tuple[File, ...]:
    """The files that a machine of several has to have."""
    place = f"/etc/docker/certs.d/{registry_address(machines[0])}"
    found = [
        File(f"{place}/ca.crt", certificates.authority, 0o644),
        File(f"{place}/client.cert", certificates.node.certificate, 0o644),
        File(f"{place}/client.key", certificates.node.key, 0o600),
        File(firewall.SCRIPT, firewall.script([one.address for one in machines]), 0o755),
        File(*firewall.boot_file(systemd=machine.systemd)),
    ]
    if machine.master:
        own = directory(stack)
        found += [
            File(f"{own}/registry.yml", _registry_settings(machine, own), 0o644),
            File(f"{own}/ca.crt", certificates.authority, 0o644),
            File(f"{own}/registry.crt", certificates.server.certificate, 0o644),
            File(f"{own}/registry.key", certificates.server.key, 0o600),
        ]
    return tuple(found)


def _registry_settings(master: Machine, own: str) -> str:
    """Settings of the registry: whoever has a certificate of the stack's authority is let in, nobody else."""
    return f"""version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: /var/lib/registry}}
  delete: {{enabled: true}}
http:
  addr: {registry_address(master)}
  tls:
    certificate: {own}/registry.crt
    key: {own}/registry.key
    clientcas: [{own}/ca.crt]
"""
