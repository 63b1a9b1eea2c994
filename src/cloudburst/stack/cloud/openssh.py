"""What ssh is told of a stack's machines: addresses by name, and whose keys are remembered."""

from __future__ import annotations

from collections.abc import Sequence

from cloudburst.providers.provider import Node
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.paths import read_text, write_private

USER = "root"


def alias(node: Node) -> str:
    """Under which name a machine's key is remembered.

    Addresses are given to one machine after another, identities never: so a new machine is at its first
    contact, and an old one has to show its old key.
    """
    return f"cloudburst-{node.identity}"


def config(nodes: Sequence[Node]) -> str:
    """The contents of an ``ssh_config`` by which ssh finds the machines under their names."""
    blocks = [
        f"Host {node.name}\n  HostName {node.address}\n  User {USER}\n  HostKeyAlias {alias(node)}\n"
        for node in nodes
        if node.address
    ]
    return "# Written by cloudburst; changes are lost.\n" + "\n".join(blocks)


def write(paths: CloudPaths, nodes: Sequence[Node]) -> None:
    """Write the configuration, and forget keys of machines that are gone. Raises OSError."""
    text = config(nodes)
    if text != read_text(paths.ssh_config):
        write_private(paths.ssh_config, text)
    there = {alias(node) for node in nodes}
    known = read_text(paths.known_hosts)
    kept = "".join(line for line in known.splitlines(keepends=True) if line.split(" ", 1)[0] in there)
    if kept != known:
        write_private(paths.known_hosts, kept)
