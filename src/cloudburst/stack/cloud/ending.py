"""A stack that was made for one ensemble is destroyed when its results have been fetched."""

from __future__ import annotations

from collections.abc import Mapping

from cloudburst import config, names
from cloudburst.errors import ConfigError, StackError
from cloudburst.providers.digitalocean.provider import DigitalOcean
from cloudburst.stack.cloud import account, removal
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.quantities import spent
from cloudburst.stack.cloud.swarm import Swarm, SwarmOfMachines
from cloudburst.stack.swarm.runner import Say


def check(environ: Mapping[str, str], stack: str | None) -> None:
    """Before the work begins: raise ConfigError if the stack could not be destroyed afterwards."""
    name = _name(environ, stack)
    if not CloudPaths(config.stack_dir(environ, name)).fleet.exists():
        raise ConfigError(
            f"--down-when-done is for stacks at a provider, and {name} is none that was made from here"
        )
    account.opened(environ)


def down(
    environ: Mapping[str, str],
    stack: str | None,
    say: Say,
    *,
    provider: DigitalOcean | None = None,
    swarm: Swarm | None = None,
) -> None:
    """Destroy the stack without asking, unless it has other work: StackError then."""
    name = _name(environ, stack)
    busy = (swarm or SwarmOfMachines(environ, config.home(environ), name, None, say)).busy()
    if busy:
        raise StackError(f"stack {name} is not destroyed, since it has other work: {busy}")
    gone = removal.down(environ, name, say, provider=provider, swarm=swarm)
    say(f"stack {name} is gone. It has cost {spent(gone.cost)}")


def _name(environ: Mapping[str, str], stack: str | None) -> str:
    """Of the stack that a client means, as ``Stack.connect`` understands it."""
    return stack or environ.get("CLOUDBURST_STACK") or names.LOCAL_STACK
