"""What a user is told before money is spent, or machines are destroyed."""

from __future__ import annotations

from collections.abc import Sequence

from cloudburst.errors import ConfigError
from cloudburst.providers.digitalocean import billing
from cloudburst.providers.digitalocean.fleet import FleetPlan
from cloudburst.providers.digitalocean.resources import Resource
from cloudburst.providers.provider import Node
from cloudburst.stack.cloud.quantities import age, dollars, rate, spent
from cloudburst.stack.cloud.settings import name_flag

WORDS = {"off": "powered off", "archive": "given up by the provider", "new": "not yet active"}


def plan_lines(plan: FleetPlan) -> list[str]:
    """The plan, a line per machine, and what it costs."""
    lines = [f"stack {plan.fleet.stack} at DigitalOcean, region {plan.fleet.region}"]
    for one in plan.make:
        lines.append(_line("create", one.name, one.size, f"{dollars(one.price_hourly)} per hour"))
    for node in plan.keep:
        lines.append(_line("keep", node.name, node.size, f"{dollars(node.price_hourly)} per hour"))
    for node in reversed(plan.surplus):
        why = WORDS.get(node.state) if node.state != "new" else None
        lines.append(_line("destroy", node.name, node.size, why or "when its jobs have ended"))
    for what in plan.new_resources:
        lines.append(f"  create   {what} (free)")
    now = f" (now {rate(plan.price_hourly_now)})" if plan.price_hourly_now else ""
    lines.append(f"  price    {rate(plan.price_hourly)}{now}")
    return lines


def question(plan: FleetPlan) -> str:
    """What to ask before the plan is carried out; "" when it changes nothing."""
    made, gone = len(plan.make), len(plan.surplus)
    if made and gone:
        return f"create {machines(made)} and destroy {machines(gone)}?"
    if made:
        return f"create {machines(made)}?"
    return f"destroy {machines(gone)}?" if gone else ""


def check_cost(plan: FleetPlan, limit_hourly: float) -> None:
    """Raise ConfigError for a plan that costs more than the limit, in US dollars per hour; 0: no limit."""
    if limit_hourly and plan.price_hourly > limit_hourly:
        raise ConfigError(
            f"stack {plan.fleet.stack} would cost {rate(plan.price_hourly)}, and --max-cost is "
            f"{rate(limit_hourly)}: fewer nodes, smaller sizes, or another --max-cost"
        )


def removal_lines(
    stack: str, nodes: Sequence[Node], others: Sequence[Resource], before: float, now: float
) -> list[str]:
    """What -d would take away. ``before``: US dollars for machines that are gone already."""
    lines = [f"stack {stack} at DigitalOcean: this is destroyed, with all results and files on it"]
    for node in nodes:
        state = f", {WORDS[node.state]}" if node.state in WORDS else ""
        so_far = f"{age(now - node.created_at)} old, {spent(cost(node, now))} so far{state}"
        lines.append(_line("destroy", node.name, node.size, so_far))
    for one in others:
        lines.append(f"  destroy  {one.kind} {one.name}")
    total = before + sum(cost(node, now) for node in nodes)
    lines.append(f"  cost     {spent(total)} so far")
    return lines


def cost(node: Node, now: float) -> float:
    """US dollars since the machine was created. ``now``: Unix time in seconds."""
    return billing.cost(node.created_at, now, node.price_hourly, node.price_monthly)


def there_now(stack: str, nodes: Sequence[Node]) -> str:
    """What a command that failed leaves behind, what that costs, and how it ends."""
    if not nodes:
        return f"stack {stack} has no machines at DigitalOcean, so it costs nothing"
    names = ", ".join(node.name for node in nodes)
    return (
        f"there now: {names}: {rate(sum(node.price_hourly for node in nodes))}. The same command goes on; "
        f"./buildstack.sh{name_flag(stack)} -d destroys them"
    )


def machines(count: int) -> str:
    """``1 machine``, ``3 machines``."""
    return f"{count} machine{'' if count == 1 else 's'}"


def _line(what: str, name: str, size: str, rest: str) -> str:
    return f"  {what:<8} {name:<20} {size:<16} {rest}"
