"""What every machine can do, wherever it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from cloudburst.commands.command import Command

Line = Callable[[str], None]
"""Takes one line of what a command writes, while it runs."""


@dataclass(frozen=True)
class Completed:
    """A command that has ended."""

    exit_code: int
    stdout: str
    """"" if its lines were taken while it ran."""
    stderr: str


@dataclass(frozen=True)
class Piped:
    """A command that runs, with its streams."""

    stdin: BinaryIO
    """Close it when there is no more to come."""
    stdout: BinaryIO
    complaints: Callable[[], str]
    """The end of what it has written to stderr so far."""


class Host(Protocol):
    """A machine that runs commands."""

    @property
    def name(self) -> str: ...

    def run(self, command: Command, timeout_s: float, on_line: Line | None = None) -> Completed:
        """Run to the end. Raises CommandError when it cannot be started, fails, or takes too long.

        ``on_line`` gets each line of its stdout and stderr at once; the last ones are also the error's.
        """
        ...

    def piped(self, command: Command) -> contextlib.AbstractContextManager[Piped]:
        """Start a command whose input or output is large. Leaving waits for its end.

        Raises CommandError when it cannot be started or fails. When the body raises, it is killed.
        """
        ...

    def close(self) -> None:
        """End what still runs for this object, and let go of the machine."""
        ...
