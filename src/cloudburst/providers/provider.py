"""What every provider can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Node:
    """One machine of a stack, as its provider knows it."""

    stack: str
    name: str
    address: str
    """Where it is reached from here; "" while it has none."""
    private_address: str = ""
    """Where the stack's other nodes reach it; "" while it has none."""
    identity: str = ""
    """What the provider calls it: no two machines ever share it."""
    state: str = "active"
    """``new``, ``active``, ``off`` or ``archive``."""
    size: str = ""
    region: str = ""
    price_hourly: float = 0.0
    """US dollars."""
    created_at: float = 0.0
    """Unix time in seconds."""
    price_monthly: float = 0.0
    """US dollars that it costs in a month at most; 0: not known."""


class Provider(Protocol):
    """Makes, lists and removes the nodes of a stack. Raises StackError."""

    def create(self, stack: str) -> Node:
        """A node for that stack; for a provider that has only one, always the same."""
        ...

    def nodes(self, stack: str) -> list[Node]:
        """The nodes that the stack has, as the provider itself knows them."""
        ...

    def remove(self, node: Node) -> None:
        """Take the node and everything on it away; nothing happens when it is gone already."""
        ...
