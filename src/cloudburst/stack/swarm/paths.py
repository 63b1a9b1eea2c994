"""Where a swarm's stack keeps its things on this machine."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SwarmPaths:
    """The directory of one stack."""

    root: Path

    @property
    def lock(self) -> Path:
        """Beside the directory, so that it can be held while that is removed."""
        return self.root.parent / f".{self.root.name}.lock"

    @property
    def endpoints(self) -> Path:
        """Written when a deployment is complete, removed when the stack is taken down."""
        return self.root / "endpoints.json"

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def nodes(self) -> Path:
        """What is remembered of the nodes."""
        return self.root / "nodes.json"

    @property
    def ca(self) -> Path:
        """What clients trust."""
        return self.root / "ca.pem"

    @property
    def ssh(self) -> Path:
        return self.root / "ssh"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    def secret(self, name: str) -> Path:
        return self.secrets / name

    @contextlib.contextmanager
    def copied(self) -> Iterator[SwarmPaths]:
        """A copy of what is there, for as long as it is needed: to be changed in place of the directory.

        Raises OSError.
        """
        with tempfile.TemporaryDirectory(prefix=f".{self.root.name}.", dir=self.root.parent) as directory:
            copy = SwarmPaths(Path(directory) / self.root.name)
            if self.root.exists():
                sockets = shutil.ignore_patterns("*.[0-9]*")
                shutil.copytree(self.root, copy.root, ignore=sockets)
            yield copy

    def make(self) -> None:
        """Raises OSError."""
        self.root.parent.mkdir(parents=True, exist_ok=True)
        for directory in (self.root, self.ssh, self.secrets):
            directory.mkdir(mode=0o700, exist_ok=True)
