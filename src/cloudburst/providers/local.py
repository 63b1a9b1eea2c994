"""Provider ``local``: this machine is the one node, and a directory is all that the stack has of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cloudburst import archive
from cloudburst.errors import StackError
from cloudburst.providers.provider import Node


class LocalProvider:
    """Keeps each stack's node in a directory of its own under ``home``."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def directory(self, stack: str) -> Path:
        """Where everything of the stack's node is kept."""
        return self._home / stack

    def create(self, stack: str) -> Node:
        """The stack's node; its directory is for this user's eyes only (StackError if it cannot be made)."""
        directory = self.directory(stack)
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"cannot make {directory}: {error.strerror}; CLOUDBURST_HOME chooses another place"
            ) from error
        return self._node(stack)

    def nodes(self, stack: str) -> list[Node]:
        """The node, if the stack was ever started here and not purged."""
        return [self._node(stack)] if self.directory(stack).is_dir() else []

    def remove(self, node: Node) -> None:
        """Remove the node's directory: results, files and secrets."""
        try:
            archive.unprotect(self.directory(node.stack))
            shutil.rmtree(self.directory(node.stack))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StackError(f"cannot remove {error.filename}: {error.strerror}") from error

    def _node(self, stack: str) -> Node:
        return Node(stack=stack, name=os.uname().nodename, address="127.0.0.1")
