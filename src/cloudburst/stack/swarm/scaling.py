"""How many jobs a node runs at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cloudburst.commands import docker
from cloudburst.errors import ConfigError, StackError
from cloudburst.rqwire import nodes
from cloudburst.stack.swarm import deploy, operator
from cloudburst.stack.swarm.runner import Say

STOP_S = 600.0
"""Longest time for a worker to end: its jobs get the grace period."""


def parse(said: Sequence[str]) -> dict[str, int]:
    """``a=4`` → slots by node. Raises ConfigError."""
    found = {}
    for text in said:
        match = re.fullmatch(r"([^=\s]+)=(\d{1,4})", text)
        if not match:
            raise ConfigError(f"--scale: write NODE=SLOTS, as in --scale a=4; got {text!r}")
        found[match[1]] = int(match[2])
    return found


def scale(environ: Mapping[str, str], stack: str, slots: Mapping[str, int], say: Say) -> None:
    """Give nodes so many slots each; 0: one per CPU. Their workers are started again, one after another.

    Nodes are named as the swarm or as the list of hosts does. Raises StackError, ConfigError, QueueError.
    """
    paths, settings = deploy.known(environ, stack)
    with deploy.reached(environ, paths, settings, say) as (runner, _hosts):
        there = deploy.read(runner, stack)
        hosts = {facts.hostname: host for host, facts in there.items()}
        hosts |= {host: host for host in there}
        unknown = sorted(slots.keys() - hosts.keys())
        if unknown:
            known = ", ".join(sorted(facts.hostname for facts in there.values()))
            raise StackError(
                f"--scale: {', '.join(unknown)}: not a node of stack {stack} (there are {known})"
            )
        with operator.queue(environ, stack) as queue:
            for name, count in slots.items():
                nodes.set_slots(queue, there[hosts[name]].hostname, count)
        for name, count in slots.items():
            title = f"{count or 'as many slots as CPUs'}{' slots' if count else ''}; its worker starts again"
            with runner.step(hosts[name], title):
                running = runner.read(hosts[name], docker.service_containers(f"{stack}_worker"))
                if running:
                    runner.do(hosts[name], docker.stop(running.split()), STOP_S)
