"""Named nodes of a stack at a provider leave it, and their machines are removed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cloudburst import config
from cloudburst.errors import StackError
from cloudburst.providers.digitalocean.provider import DigitalOcean
from cloudburst.stack.cloud import account, keys, openssh, spending
from cloudburst.stack.cloud.deploy import LOCK_WAIT_S, Change
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.settings import known
from cloudburst.stack.cloud.swarm import Swarm, SwarmOfMachines
from cloudburst.stack.lock import held
from cloudburst.stack.refusals import explained
from cloudburst.stack.swarm.runner import Say


def leave(
    environ: Mapping[str, str],
    stack: str,
    names: Sequence[str],
    say: Say,
    *,
    timeout_s: float | None = None,
    lost: bool = False,
    provider: DigitalOcean | None = None,
    swarm: Swarm | None = None,
) -> None:
    """Let these nodes end their jobs, take them out, and remove their machines.

    The stack is to have so many nodes fewer from then on; but with ``lost`` (they do not answer, and their
    jobs are not waited for) as many as before, so the next deployment replaces them. Raises StackError, also
    when jobs still run after ``timeout_s``: the node goes on draining then.
    """
    paths = CloudPaths(config.stack_dir(environ, stack))
    with explained(), held(paths.fleet_lock, say, time.sleep, LOCK_WAIT_S):
        settings = known(paths.fleet, stack)
        at = provider or account.opened(environ)
        on = swarm or SwarmOfMachines(environ, Path(), stack, None, say)
        there = at.nodes(stack)
        settings = spending.settled(settings, there)
        wanted = [name.rpartition("@")[2] for name in names]
        for name in wanted:
            if name == f"{stack}-master":
                raise StackError(f"{name} is the master, and cannot leave; -d takes the whole stack away")
            if name not in {node.name for node in there} | set(on.members):
                have = ", ".join(node.name for node in there)
                raise StackError(f"{name!r} is not a node of stack {stack}; there are {have or 'none'}")
        openssh.write(paths, there)
        change = Change(paths, at, on, say, stack, settings, keys.ensure(paths))
        if on.working and not lost:
            on.announce([name for name in wanted if name in on.members])
        for name in wanted:
            if on.working and name in on.members:
                if lost:
                    on.lost(name)
                else:
                    on.drain(name, timeout_s)
            change.remove([node for node in there if node.name == name])
            if not lost:
                change.settings = replace(change.settings, nodes=max(change.settings.nodes - 1, 0))
                change.settings.save(paths.fleet)
