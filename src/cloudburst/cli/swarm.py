"""What ``cloudburst stack`` does with stacks on swarms."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloudburst import config
from cloudburst.console import Terminal, talking
from cloudburst.errors import ConfigError
from cloudburst.stack.swarm import deploy, leaving, removal, saving, scaling
from cloudburst.stack.swarm.deploy import Deployed
from cloudburst.stack.swarm.logs import Log, hostname
from cloudburst.stack.swarm.runner import Say
from cloudburst.stack.swarm.saving import Folder
from cloudburst.stack.swarm.settings import STACK_NAMES, Kind, Wishes

REPOSITORY = Path(__file__).parents[3]
"""The checkout, from which images are built: the package is installed from there, in place."""

WISHES = (
    "hosts",
    "https_port",
    "queue_port",
    "ssh_key",
    "ssh_config",
    "private_interface",
    "tls_cert",
    "tls_key",
)


def flag(kind: Kind, stack: str, hosts: str | None = None) -> str:
    """What to write on the command line to mean this stack."""
    where = "--docker" if kind == "docker" else f"--hosts {hosts}" if hosts else "--hosts ..."
    return where if stack == STACK_NAMES[kind] else f"{where} --name {stack}"


def up(kind: Kind, stack: str, said: Mapping[str, Any], *, dry: bool) -> None:
    talk = talking()
    wishes = Wishes(
        **{name: path(name, said[name]) for name in WISHES if said.get(name) is not None},
        builds=config.for_builds(os.environ),
    )
    done = deploy.up(os.environ, REPOSITORY, stack, wishes, talk.print, kind=kind, dry=dry)
    if done is None:
        talk.print("nothing was changed: this was a dry run")
        return
    if not done.changed:
        talk.print(f"nothing to do: stack {stack} runs as it should ({done.took_s:.1f} s)", style="green")
    else:
        talk.print(f"deployed in {_minutes(done.took_s)}\n")
    print_endpoints(done)


def down(kind: Kind, stack: str, *, purge: bool) -> None:
    """Take the stack down; the user has been asked."""
    talk = talking()
    removed = removal.down(os.environ, stack, talk.print, purge=purge)
    for line in removed.left:
        talk.print(f"  left: {line}")
    what = "removed, with its results and files" if purge else "taken down; results and files stay"
    talk.print(f"stack {stack} is {what}")


def logs(stack: str, service: str, node: str, *, follow: bool, tail: int) -> None:
    paths, settings = deploy.known(os.environ, stack)
    with deploy.reached(os.environ, paths, settings, lambda _line: None) as (runner, _hosts):
        log = Log(runner, stack, service, Terminal(soft_wrap=True).print)
        log.show(hostname(runner, stack, node) if node else "", follow=follow, tail=tail)


def scale(stack: str, said: Sequence[str]) -> None:
    scaling.scale(os.environ, stack, scaling.parse(said), _say())


def need(kind: Kind | None, flag: str) -> Kind:
    """Raise ConfigError for a stack that is not on a swarm."""
    if kind is None:
        raise ConfigError(
            f"{flag} is for stacks on swarms (--hosts, --docker); docs/operating.md has the others"
        )
    return kind


def drain(stack: str, node: str, *, timeout_s: float | None, lost: bool, purge: bool) -> None:
    leaving.drain(os.environ, stack, node, _say(), timeout_s=timeout_s, lost=lost, purge=purge)


def undrain(stack: str, node: str) -> None:
    leaving.undrain(os.environ, stack, node, _say())


def backup(stack: str, directory: Path, *, with_secrets: bool) -> None:
    say, began = _say(), time.monotonic()
    with saving.opened(os.environ, stack, say) as site:
        saving.backup(site, Folder(directory.absolute()), with_secrets=with_secrets)
    say(f"stack {stack} is saved in {directory} ({_minutes(time.monotonic() - began)})")


def restore(kind: Kind, stack: str, directory: Path, *, force: bool) -> None:
    say, began = _say(), time.monotonic()
    with saving.opened(os.environ, stack, say) as site:
        changed = saving.restore(site, Folder(directory.absolute()), force=force)
    if changed:
        say("deploying again with the passwords that were saved")
        deploy.up(os.environ, REPOSITORY, stack, Wishes(), say, kind=kind)
    say(f"stack {stack} is as it was saved in {directory} ({_minutes(time.monotonic() - began)})")


def _say() -> Say:
    return talking().print


def print_endpoints(done: Deployed) -> None:
    """Where the stack's services are, and what to do next."""
    where = done.endpoints
    console = Terminal(soft_wrap=True)
    console.print(f"Stack {where.stack} is running, with {done.slots} slot{'s' if done.slots > 1 else ''}.")
    addresses = [
        ("queue", where.redis_url.rpartition("@")[2].removesuffix("/0")),
        ("filestore", where.filestore_url),
        ("influx", where.influx_url),
        ("queue-dash", where.queue_dash_url),
        ("grafana", where.grafana_url or "(not here)"),
    ]
    for name, address in addresses:
        console.print(f"  {name:<12}{address}")
    directory = config.stack_dir(os.environ, where.stack)
    console.print(f"Browsers have to trust {directory / 'ca.pem'}.")
    console.print(
        f"Log in at queue-dash as cloudburst, at grafana as admin: passwords are in {directory / 'secrets'}"
    )
    asked = f"--name {where.stack}"
    console.print(f"\nNext: .venv/bin/python client/run.py --stack {where.stack} --jobs 100")
    console.print(f"Look: ./buildstack.sh {asked} --status    Stop: ./buildstack.sh {asked} -d")


def path(name: str, value: Any) -> Any:
    """Files are remembered, so from wherever this is run."""
    if name in {"ssh_key", "ssh_config", "tls_cert", "tls_key"} and value:
        path = Path(value).expanduser().absolute()
        if not path.is_file():
            raise ConfigError(f"--{name.replace('_', '-')}: {value} is not a file")
        return str(path)
    return value


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
