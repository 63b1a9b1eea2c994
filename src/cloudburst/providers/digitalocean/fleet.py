"""Which machines a stack is to have, and what that means for those that it has."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cloudburst.errors import ProviderError
from cloudburst.providers.provider import Node

_STACK = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class Fleet:
    """The machines that are wanted: a master and ``nodes`` compute nodes beside it."""

    stack: str
    nodes: int
    region: str = "fra1"
    size: str = "s-2vcpu-4gb"
    master_size: str = "s-2vcpu-4gb"
    image: str = "ubuntu-24-04-x64"
    allow: tuple[str, ...] = ()
    """CIDRs that may reach ports 22, 443 and 6380; empty: nobody."""

    def check(self) -> None:
        """Raise ProviderError for what no account could have."""
        if not _STACK.fullmatch(self.stack):
            raise ProviderError(
                f"{self.stack!r} cannot name a stack at DigitalOcean: up to 40 of a-z, 0-9 and - make a "
                "name, and - neither begins nor ends it"
            )
        if self.nodes < 0:
            raise ProviderError(f"a stack cannot have {self.nodes} compute nodes")
        for cidr in self.allow:
            try:
                ipaddress.ip_network(cidr, strict=False)
            except ValueError:
                raise ProviderError(
                    f"{cidr!r} is no range of addresses: 203.0.113.7 or 203.0.113.0/24 would be"
                ) from None

    @property
    def master(self) -> str:
        """The name of its master."""
        return f"{self.stack}-master"

    def node(self, number: int) -> str:
        """The name of a compute node; numbers start at 1."""
        return f"{self.stack}-{number}"


@dataclass(frozen=True)
class NewNode:
    """A machine that is to be made."""

    name: str
    size: str
    price_hourly: float
    """US dollars."""


@dataclass(frozen=True)
class FleetPlan:
    """The way from the machines that there are to those that are wanted."""

    fleet: Fleet
    make: tuple[NewNode, ...]
    """Master first."""
    keep: tuple[Node, ...]
    """Master first; those that are still being made stand here, too."""
    surplus: tuple[Node, ...]
    """To be drained and removed: highest numbers first; also those that are ``off`` or ``archive``."""
    price_hourly: float
    """US dollars for all machines when the plan has been carried out."""
    price_hourly_now: float
    """US dollars for the machines that there are now; those that are off cost the same."""
    new_resources: tuple[str, ...]
    """What is made beside machines, such as ``VPC cloudburst-floods``."""


def number_of(stack: str, name: str) -> int | None:
    """0 for the stack's master, N for its compute node N, None for any other machine."""
    role = name.removeprefix(f"{stack}-")
    if role == name:
        return None
    if role == "master":
        return 0
    return int(role) if re.fullmatch(r"[1-9][0-9]{0,5}", role) else None


def in_order(stack: str, nodes: Iterable[Node]) -> list[Node]:
    """Master first, then by number, then the names that we did not give; of one name the oldest first."""

    def place(node: Node) -> tuple[bool, int, str, float, int]:
        number = number_of(stack, node.name)
        return number is None, number or 0, node.name, node.created_at, int(node.identity or 0)

    return sorted(nodes, key=place)


def compare(
    fleet: Fleet, nodes: Iterable[Node], prices: Mapping[str, float]
) -> tuple[list[NewNode], list[Node], list[Node]]:
    """What to make, to keep, and what is surplus (highest numbers first).

    Of machines with one name the oldest is kept: the others come from a call that was made twice. Machines
    that are off or archived are surplus, and their names are free when they are gone. Those whose names we
    did not give are left alone. A master that is off holds the queue: ProviderError.
    """
    serving: dict[int, Node] = {}
    surplus: list[Node] = []
    for node in in_order(fleet.stack, nodes):
        number = number_of(fleet.stack, node.name)
        if number is None:
            continue
        if node.state in {"off", "archive"}:
            if number == 0:
                raise ProviderError(
                    f"{node.name} is {node.state}, and it has the queue and the results: switch it on at "
                    "https://cloud.digitalocean.com/droplets, or remove the stack with -d"
                )
            surplus.append(node)
        elif number in serving:
            surplus.append(node)
        else:
            serving[number] = node
    numbers = sorted(number for number in serving if number)
    kept = numbers[: fleet.nodes]
    surplus += [serving[number] for number in numbers[fleet.nodes :]]
    taken = {*serving, *(number_of(fleet.stack, node.name) for node in surplus)}
    free = (number for number in range(1, 1_000_000) if number not in taken)
    names = [] if 0 in serving else [(fleet.master, fleet.master_size)]
    names += [(fleet.node(next(free)), fleet.size) for _ in range(fleet.nodes - len(kept))]
    make = [NewNode(name, size, prices.get(size, 0.0)) for name, size in names]
    keep = [serving[number] for number in (0, *kept) if number in serving]
    return make, keep, in_order(fleet.stack, surplus)[::-1]
