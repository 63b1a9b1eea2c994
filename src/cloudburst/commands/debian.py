"""Command lines that ask about Debian packages."""

from __future__ import annotations

from collections.abc import Sequence

from cloudburst.commands.command import Command


def query(packages: Sequence[str]) -> Command:
    """Print ``installed <name>`` for each that is; fails when one is unknown, and prints the others."""
    return Command(("dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\\n", *packages))


def installed(printed: str) -> set[str]:
    """Names of the packages that ``query`` has printed as installed."""
    words = (line.partition(" ") for line in printed.splitlines())
    return {name for status, _, name in words if status == "installed"}
