"""What machines have cost that are gone: known also when the command that removed them was killed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cloudburst.providers.digitalocean import billing
from cloudburst.providers.provider import Node
from cloudburst.stack.cloud.settings import Leaving, Settings


def begun(settings: Settings, nodes: Sequence[Node], now: float) -> Settings:
    """To be saved before those are removed. ``now``: Unix time in seconds."""
    leaving = [
        Leaving(node.identity, node.created_at, node.price_hourly, node.price_monthly, now) for node in nodes
    ]
    return replace(settings, leaving=(*settings.leaving, *leaving))


def settled(settings: Settings, there: Iterable[Node]) -> Settings:
    """Those that are gone have cost what they have; the others count as machines again."""
    left = {node.identity for node in there}
    gone = [one for one in settings.leaving if one.identity not in left]
    total = sum(
        billing.cost(one.created_at, one.asked_at, one.price_hourly, one.price_monthly) for one in gone
    )
    return replace(settings, spent=settings.spent + total, leaving=())
