"""A stack at a provider is taken away, until nothing of it is left; and what is left over of any stack."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree

from cloudburst import config
from cloudburst.providers.digitalocean.provider import DigitalOcean
from cloudburst.providers.digitalocean.resources import Resource
from cloudburst.stack.cloud import account, spending, telling
from cloudburst.stack.cloud.deploy import Ask
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.settings import Settings
from cloudburst.stack.cloud.swarm import Swarm, SwarmOfMachines
from cloudburst.stack.lock import held
from cloudburst.stack.refusals import explained
from cloudburst.stack.swarm.runner import Say

LOCK_WAIT_S = 120.0


@dataclass(frozen=True)
class Gone:
    """What a removal has led to. Nothing is left of the stack."""

    removed: tuple[Resource, ...]
    """What there was of it at the provider."""
    cost: float
    """US dollars, for all machines that it ever had, as far as is known here."""
    was_here: bool
    """Whether this machine knew the stack."""


def down(
    environ: Mapping[str, str],
    stack: str,
    say: Say,
    *,
    ask: Ask | None = None,
    provider: DigitalOcean | None = None,
    swarm: Swarm | None = None,
) -> Gone:
    """Destroy everything of the stack, at the provider and here, also if it was made elsewhere.

    ``ask`` is asked before; None: that is agreed. Raises ProviderError while anything is left at the
    provider: what is kept here stays then, and the same call goes on.
    """
    paths = CloudPaths(config.stack_dir(environ, stack))
    with explained(), held(paths.fleet_lock, say, time.sleep, LOCK_WAIT_S):
        at = provider or account.opened(environ)
        settings = Settings.load(paths.fleet)
        nodes = at.nodes(stack)
        settings = spending.settled(settings, nodes) if settings else None
        before = settings.spent if settings else 0.0
        others = [one for one in at.audit() if one.stack == stack and one.kind != "droplet"]
        if nodes or others:
            for line in telling.removal_lines(stack, nodes, others, before, time.time()):
                say(line)
            busy = (swarm or SwarmOfMachines(environ, Path(), stack, None, say)).busy() if nodes else ""
            if busy:
                say(f"  jobs     {busy}: they are given up")
            if ask:
                ask(f"destroy all of stack {stack}?")
        # First, so that a client that starts now is told that there is no stack.
        paths.endpoints.unlink(missing_ok=True)
        if settings:
            replace(spending.begun(settings, nodes, time.time()), ending=True).save(paths.fleet)
        removal = at.remove_all(stack, say)
        known = paths.fleet.exists()
        if known:
            _forget(paths)
        return Gone(removal.removed, before + removal.cost, known)


def _forget(paths: CloudPaths) -> None:
    """Remove what is kept here. Last goes what tells that the stack is at a provider, in case of a kill."""
    for path in paths.root.iterdir():
        if path.is_dir() and not path.is_symlink():
            rmtree(path)
        elif path != paths.fleet:
            path.unlink()
    paths.fleet.unlink()
    paths.root.rmdir()
