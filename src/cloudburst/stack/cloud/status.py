"""What the provider has of a stack, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cloudburst import config
from cloudburst.providers.digitalocean.provider import DigitalOcean
from cloudburst.providers.digitalocean.resources import Resource
from cloudburst.providers.provider import Node
from cloudburst.stack.cloud import account, spending, telling
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.settings import Settings
from cloudburst.stack.swarm.settings import Settings as SwarmSettings


@dataclass(frozen=True)
class Machine:
    """One machine at the provider."""

    node: Node
    left_over: str
    """Why it is billed for nothing; "" for a node of the stack."""
    cost: float
    """US dollars so far."""


@dataclass(frozen=True)
class FleetStatus:
    """Everything of one stack at the provider."""

    settings: Settings | None
    """None for a stack that was made elsewhere."""
    machines: tuple[Machine, ...]
    others: tuple[Resource, ...]
    """VPC, firewall and key."""
    cost: float
    """US dollars so far, for machines that are gone, too."""
    price_hourly: float
    is_open: bool
    """The firewall lets in everybody, and nobody said so: a first login was killed."""


def status(
    environ: Mapping[str, str], stack: str, now: float, provider: DigitalOcean | None = None
) -> FleetStatus:
    """Ask the provider; changes nothing. ``now``: Unix time in seconds. Raises StackError, ConfigError."""
    paths = CloudPaths(config.stack_dir(environ, stack))
    at = provider or account.opened(environ)
    settings, deployed = Settings.load(paths.fleet), SwarmSettings.load(paths.settings)
    members = [target.host for target in deployed.targets] if deployed else None
    nodes = at.nodes(stack)
    machines = []
    seen: Counter[str] = Counter()
    for node in sorted(nodes, key=lambda node: node.created_at):
        seen[node.name] += 1
        machines.append(
            Machine(node, _left_over(node, members, again=seen[node.name] > 1), telling.cost(node, now))
        )
    if settings:
        settings = spending.settled(settings, nodes)
    order = {node.identity: place for place, node in enumerate(nodes)}
    return FleetStatus(
        settings=settings,
        machines=tuple(sorted(machines, key=lambda one: order[one.node.identity])),
        others=tuple(one for one in at.audit() if one.stack == stack and one.kind != "droplet"),
        cost=(settings.spent if settings else 0.0) + sum(one.cost for one in machines),
        price_hourly=sum(node.price_hourly for node in nodes),
        is_open=not (settings and settings.allow) and at.is_open(stack),
    )


def _left_over(node: Node, members: list[str] | None, *, again: bool) -> str:
    if node.state in {"off", "archive"}:
        return f"{telling.WORDS[node.state]}, and billed"
    if again:
        return "a second machine of that name"
    if members is not None and node.name not in members:
        return "not a node of the stack"
    return ""
