"""Command lines for a machine that has nothing but a Debian or Ubuntu: what it is, files, Docker."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from cloudburst.commands.command import Command


def facts(stack: str) -> Command:
    """Print what is there, a ``name=value`` per line; see ``machine_facts.sh``."""
    return Command(("sh", "-s", "--", stack), stdin=_script("machine_facts.sh"))


def install_docker() -> Command:
    """Install Docker from the distribution; waits for other installations to end."""
    return Command(("sh", "-s", "--", "install-docker"), stdin=_script("install_docker.sh"))


def start_docker() -> Command:
    """Start Docker now and at each boot; return when it answers."""
    return Command(("sh", "-s", "--", "start-docker"), stdin=_script("start_docker.sh"))


def restart_docker() -> Command:
    """End Docker and all containers, and start it again; return when it answers."""
    return Command(("sh", "-s", "--", "restart-docker"), stdin=_script("start_docker.sh"))


def await_port(port: int, wait_s: int) -> Command:
    """Wait until nothing listens at that port; else print ``held N``: N containers run there."""
    return Command(("sh", "-s", "--", str(port), str(wait_s)), stdin=_script("await_port.sh"))


def write_file(path: str, contents: str, mode: int) -> Command:
    """Replace a file in one step; its directory is made."""
    script = 'umask 077; mkdir -p -m 755 "${1%/*}"; cat >"$1.new" && chmod "$2" "$1.new" && mv "$1.new" "$1"'
    return Command(("sh", "-c", script, "write", path, f"{mode:o}"), stdin=contents)


def remove_files(paths: Sequence[str]) -> Command:
    """Remove files, and their directories if these are empty then."""
    script = 'for path; do rm -f "$path"; rmdir -p "${path%/*}" 2>/dev/null || :; done'
    return Command(("sh", "-c", script, "remove", *paths))


def _script(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
