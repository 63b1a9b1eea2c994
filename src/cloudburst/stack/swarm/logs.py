"""What a service has written, on whichever nodes it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from cloudburst.commands import docker, machine
from cloudburst.commands.command import Command
from cloudburst.errors import ConfigError
from cloudburst.stack.swarm import compose, deploy, facts
from cloudburst.stack.swarm.runner import Runner, Say

_LINE = re.compile(r"(\S+) [^\s@]+@(\S+) +\|(?: (.*))?", re.DOTALL)


@dataclass(frozen=True)
class _Line:
    time: str
    """As Docker writes it: in UTC, and always as long, so it sorts as text."""
    node: str
    text: str


class Log:
    """One service's."""

    def __init__(self, runner: Runner, stack: str, service: str, say: Say) -> None:
        """Raises ConfigError for a service that there is not."""
        if service not in compose.SERVICES:
            there = ", ".join(compose.SERVICES)
            raise ConfigError(f"--logs: {service!r} is not a service; these are: {there}")
        self._runner = runner
        self._service = f"{stack}_{service}"
        self._say = say

    def show(self, node: str = "", *, follow: bool, tail: int) -> None:
        """The last ``tail`` lines of all nodes together, in the order of time; then what comes, as it comes.

        ``node``: only what it wrote there, by the host name.
        """

        def show(line: _Line) -> None:
            if not node or line.node == node:
                self._say(f"{line.node} | {line.text}")

        lines: list[_Line] = []
        self._read(docker.service_logs(self._service, tail=tail), lines.append)
        lines.sort(key=lambda line: line.time)
        ours = [line for line in lines if not node or line.node == node]
        for line in ours[max(0, len(ours) - tail) :]:
            show(line)
        if follow:
            # What it wrote meanwhile is not lost; what has just been read comes once more.
            known = frozenset(lines)
            command = docker.service_logs_from(self._service, lines[-1].time if lines else "")
            self._read(command, lambda line: None if line in known else show(line))

    def _read(self, command: Command, take: Callable[[_Line], object]) -> None:
        def on_line(text: str) -> None:
            found = _LINE.fullmatch(text)
            if found:
                take(_Line(found[1], found[2], found[3] or ""))
            else:
                self._say(text)  # Docker's own: of a node that does not answer

        self._runner.follow(self._runner.names[0], command, on_line)


def hostname(runner: Runner, stack: str, node: str) -> str:
    """The host name of the node that has this name or address, as the master knows it. Raises ConfigError."""
    there = facts.parse(runner.read(runner.names[0], machine.facts(stack), deploy.FACTS_S)).nodes
    wanted = node.rpartition("@")[2]
    found = [one.hostname for one in there if wanted in {one.hostname, one.address, one.id}]
    if len(found) != 1:
        known = ", ".join(sorted(one.hostname for one in there))
        raise ConfigError(f"--node: {node}: not a node of stack {stack} (there are {known})")
    return found[0]
