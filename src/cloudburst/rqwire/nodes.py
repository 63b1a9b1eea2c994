"""What operators wish of nodes: one hash, a field per node, which its workers read.

Wishes are kept until they are withdrawn, whether the node lives or not; Redis keeps them over a restart.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import cast

from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.scripts import Scripts

log = logging.getLogger(__name__)

KEY = "cb:nodes"


@dataclass(frozen=True)
class Wishes:
    """For one node; the defaults wish nothing."""

    slots: int = 0
    """How many jobs its worker runs at a time, from its next start on; 0: as many as it has CPUs."""
    draining: bool = False
    """It takes no new jobs, and ends those that run."""


def read(client: Redis, node: str) -> Wishes:
    """The wishes for that node. Raises what redis-py raises."""
    return wishes(node, cast("bytes | None", client.hget(KEY, node)))


def read_all(client: Redis) -> dict[str, Wishes]:
    """All wishes, by node. Raises what redis-py raises."""
    found = cast("dict[bytes, bytes]", client.hgetall(KEY))
    nodes = {encoding.text(node): text for node, text in sorted(found.items())}
    return {node: wishes(node, text) for node, text in nodes.items()}


def set_slots(client: Redis, node: str, slots: int) -> None:
    """How many slots the node's worker has from its next start on; 0: as many as the node has CPUs."""
    Scripts(client)("node_wish", node, "slots", slots or "")


def set_draining(client: Redis, node: str, draining: bool) -> None:
    """Let the node's worker take no new jobs, or take them again: it looks every second."""
    Scripts(client)("node_wish", node, "draining", "true" if draining else "")


def forget(client: Redis, node: str) -> None:
    """Withdraw all wishes: the node is gone for good."""
    client.hdel(KEY, node)


def wishes(node: str, text: bytes | None) -> Wishes:
    """What the hash's field says: by hand anything may have been written there, and a worker lives on."""
    if text is None:
        return Wishes()
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        log.warning("%s: %s: not the wishes for a node: %r", KEY, node, text[:200])
        return Wishes()
    slots = raw.get("slots")
    return Wishes(slots if type(slots) is int and slots > 0 else 0, raw.get("draining") is True)
