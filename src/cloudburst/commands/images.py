"""Command lines that make images, to be run in the repository's root."""

from __future__ import annotations

from cloudburst.commands.command import Command


def worker(**arguments: str) -> Command:
    """Build the worker's image with these build arguments: see ``images/worker/Dockerfile``."""
    given = (word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}"))
    return Command(("docker", "build", "-f", "images/worker/Dockerfile", *given, "."))
