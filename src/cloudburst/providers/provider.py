"""What every provider can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Node:
    """One machine of a stack."""

    stack: str
    name: str
    address: str


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
