"""Where a stack at a provider keeps its things on this machine, beside those of its swarm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloudburst.stack.swarm.paths import SwarmPaths


@dataclass(frozen=True)
class CloudPaths(SwarmPaths):
    """The directory of one stack."""

    @property
    def fleet_lock(self) -> Path:
        """Held while machines are made or removed; the lock of the swarm is taken and left meanwhile."""
        return self.root.parent / f".{self.root.name}.fleet.lock"

    @property
    def fleet(self) -> Path:
        """What is wanted; its presence says that the stack is at a provider."""
        return self.root / "fleet.json"

    @property
    def elastic_log(self) -> Path:
        """What was decided about the number of nodes, and why."""
        return self.root / "elastic.log"

    @property
    def leaving(self) -> Path:
        """Nodes that an elastic stack is taking away."""
        return self.root / "leaving.json"

    @property
    def key(self) -> Path:
        """The private key that logs in to the stack's machines, and to nothing else."""
        return self.root / "ssh_key"

    @property
    def ssh_config(self) -> Path:
        """From names of machines to addresses."""
        return self.root / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The keys that the machines showed at first contact."""
        return self.ssh / "known_hosts"
