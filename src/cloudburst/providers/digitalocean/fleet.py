"""Which machines a stack is to have, and what that means for those that it has."""

from __future__ import annotations

from dataclasses import dataclass

from cloudburst.providers.provider import Node


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
