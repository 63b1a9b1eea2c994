"""One service of a stack as it should be; secrets stay out of ``repr``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloudburst.commands.command import Command
from cloudburst.stack.probes import Ready


@dataclass(frozen=True)
class Service:
    """What to start, and how to tell that it is ready."""

    name: str
    command: Command
    settings: Mapping[str, str]
    """What makes a running one right or wrong: when it differs, the service is restarted. No secrets."""
    ready: Ready = field(repr=False)
    address: str = ""
    """Where it is reached, for a user's eyes."""
    port: int | None = None
    grace_s: float = 10.0
    ready_s: float = 60.0
    """How long it may take to get ready; a loaded laptop needs seconds."""
    files: Mapping[Path, str] = field(default_factory=dict, repr=False)
    """Written before it starts, for this user's eyes only."""
    before: Command | None = None
    """Run before it starts; what it prints is worth a line in the log. If it fails, what it says on stderr is
    the reason, and the service is not started."""
