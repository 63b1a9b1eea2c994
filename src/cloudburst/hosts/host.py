"""What every machine can do, wherever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cloudburst.commands.command import Command


@dataclass(frozen=True)
class Completed:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str


class Host(Protocol):
    """A machine that runs commands."""

    @property
    def name(self) -> str: ...

    def run(self, command: Command, timeout_s: float) -> Completed:
        """Run to the end. Raises CommandError when it cannot be started, fails, or takes too long."""
        ...
