"""What ``cloudburst stack`` does with stacks at a provider."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cloudburst import config
from cloudburst.cli import swarm, swarm_status
from cloudburst.console import Terminal, talking
from cloudburst.ensemble import Stack
from cloudburst.ensemble.collecting import watch as collect
from cloudburst.errors import ConfigError
from cloudburst.providers.digitalocean.resources import Resource
from cloudburst.stack.cloud import account, deploy, leaving, removal, telling
from cloudburst.stack.cloud.growing import Growing
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.quantities import age, dollars, rate, spent
from cloudburst.stack.cloud.settings import Settings, Wishes, known, name_flag
from cloudburst.stack.cloud.status import FleetStatus
from cloudburst.stack.cloud.status import status as read_status
from cloudburst.stack.swarm.settings import Wishes as SwarmWishes

WISHES = (
    "nodes",
    "size",
    "master_size",
    "region",
    "image",
    "allow",
    "max_cost",
    "ttl",
    "idle",
    "min_nodes",
    "max_nodes",
    "save_to",
)
OF_SWARM = ("tls_cert", "tls_key")
"""What may also be said of the swarm on the machines."""


def is_known(name: str) -> bool:
    """Whether a stack of that name was made at a provider from here."""
    return CloudPaths(config.stack_dir(os.environ, name)).fleet.exists()


def has_token() -> bool:
    """Whether the user has given us a token of the provider."""
    return bool(account.token(os.environ))


def up(stack: str, said: Mapping[str, Any], *, yes: bool, dry: bool) -> None:
    talk = _talk()
    wishes = Wishes(**{name: said.get(name) for name in WISHES})
    of_swarm = {name: swarm.path(name, said[name]) for name in OF_SWARM if said.get(name) is not None}
    try:
        done = deploy.up(
            os.environ,
            swarm.REPOSITORY,
            stack,
            wishes,
            talk.print,
            ask=None if yes else ask,
            dry=dry,
            deployment=SwarmWishes(**of_swarm, builds=config.for_builds(os.environ)),
        )
    except KeyboardInterrupt as error:
        error.add_note(
            "what was made stays, and is billed; the same command goes on, "
            f"./buildstack.sh{name_flag(stack)} -d destroys it"
        )
        raise
    if done is None:
        talk.print("nothing was created: this was a dry run")
        return
    if not done.changed:
        talk.print(f"nothing to do: stack {stack} runs as it should ({done.took_s:.1f} s)", style="green")
    swarm.print_endpoints(done)
    if known(CloudPaths(config.stack_dir(os.environ, stack)).fleet, stack).max_nodes:
        watch_load(stack)


def watch(stack: str, directory: Path | None) -> None:
    """Save results as ensembles are done, and all before the stack ends."""
    settings = Settings.load(CloudPaths(config.stack_dir(os.environ, stack)).fleet)
    if directory is None and settings and settings.save_to:
        directory = Path(settings.save_to).expanduser()
    if directory is None:
        raise ConfigError("say where results are to be saved: --save-to DIR")
    there = Stack.connect(stack)
    try:
        with there.collecting() as collecting:
            collect(there, collecting, directory, _talk().print)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written ({error.strerror or error})") from error


def watch_load(stack: str) -> None:
    """Let an elastic stack grow and shrink until this is interrupted."""
    growing = Growing(os.environ, swarm.REPOSITORY, stack, _talk().print)
    try:
        growing.watch(threading.Event())
    except KeyboardInterrupt as error:
        error.add_note(
            f"stack {stack} stays as it is; to go on: cloudburst stack elastic{name_flag(stack)}. "
            f"--max 0 ends it for good"
        )
        raise


def down(stack: str, *, yes: bool) -> None:
    talk = _talk()
    gone = removal.down(os.environ, stack, talk.print, ask=None if yes else ask)
    if not gone.removed and not gone.was_here:
        talk.print(f"nothing to do: there is no stack {stack} at DigitalOcean, and none here")
        return
    talk.print(
        f"stack {stack} is gone: nothing of it is left at DigitalOcean. It has cost {spent(gone.cost)}",
        style="green",
    )


def drain(stack: str, node: str, *, timeout_s: float | None, lost: bool) -> None:
    talk = _talk()
    leaving.leave(os.environ, stack, [node], talk.print, timeout_s=timeout_s, lost=lost)
    if lost:
        talk.print(f"{node} is gone; to have another in its place: ./buildstack.sh{name_flag(stack)} -y")


def status(stack: str) -> int:
    """Print how the stack is; the exit code."""
    console = Terminal()
    now = time.time()
    found = read_status(os.environ, stack, now)
    start = f"./buildstack.sh{name_flag(stack)}"
    if found.settings and found.settings.ending:
        if found.machines:
            _print_machines(console, found, now)
        console.print(f"stack {stack} was being destroyed; end that: {start} -d", style="yellow")
        return swarm_status.PARTIAL
    if not found.machines and not found.others:
        console.print(f"stack {stack} has no machines; make them: {start} -n3")
        return swarm_status.STOPPED
    _print_machines(console, found, now)
    code = swarm_status.PARTIAL if any(one.left_over for one in found.machines) else swarm_status.WELL
    if found.is_open:
        console.print(f"wrong     the firewall lets in everybody; {start} closes it", style="red")
        code = swarm_status.PARTIAL
    if found.settings is None:
        console.print(
            f"stack {stack} was made elsewhere: there its --status says more; {start} -d destroys it"
        )
        return code
    if not CloudPaths(config.stack_dir(os.environ, stack)).settings.exists():
        console.print(f"stack {stack} was not completed; go on: {start}", style="yellow")
        return swarm_status.PARTIAL
    console.print()
    of_swarm = swarm_status.show("hosts", stack, again=start)
    if of_swarm != swarm_status.WELL and not found.settings.allow and found.settings.caller:
        lets_in = found.settings.caller[0]
        console.print(f"The firewall lets in {lets_in} only; if that is not you, {start} lets you in.")
    return code or of_swarm


def audit(stack: str | None, *, yes: bool) -> None:
    """Print everything of ours at the account, and offer to destroy it."""
    if yes and not stack:
        raise ConfigError("audit -y needs --name STACK: it destroys without asking")
    console = Terminal()
    found = [one for one in account.opened(os.environ).audit() if stack in {None, one.stack}]
    if not found:
        console.print(f"nothing{f' of stack {stack}' if stack else ''} is at DigitalOcean")
        return
    stacks = list(dict.fromkeys(one.stack for one in found))
    now = time.time()
    console.print(_resources(found, now))
    droplets = [one for one in found if one.kind == "droplet"]
    hourly = sum(one.price_hourly for one in droplets)
    console.print(
        f"\n{telling.machines(len(droplets))} in {len(stacks)} stack{'' if len(stacks) == 1 else 's'}: "
        f"{rate(hourly)}; {spent(sum(one.cost(now) for one in droplets))} so far"
    )
    for name in _chosen(stacks, stack, yes=yes):
        down(name, yes=True)


def _chosen(stacks: Sequence[str], named: str | None, *, yes: bool) -> Sequence[str]:
    """Which stacks to destroy: asked, unless that was said already."""
    if yes:
        return stacks
    if not sys.stdin.isatty():
        return ()
    if named:
        ask(f"destroy all of stack {named}?")
        return stacks
    choice = click.Choice([*stacks, "all", "none"])
    answer = click.prompt("destroy which stack?", type=choice, default="none", err=True)
    if answer == "none":
        return ()
    chosen = stacks if answer == "all" else [answer]
    ask(f"destroy {', '.join(chosen)}, with all results and files there?")
    return chosen


def ask(question: str) -> None:
    """Return if the user says yes. Raises ConfigError when there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} There is nobody to ask: add -y if that is meant")
    click.confirm(question, abort=True, err=True)


def _print_machines(console: Console, found: FleetStatus, now: float) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("machine", "size", "address", "age", "cost", "per hour"):
        right = title in {"age", "cost", "per hour"}
        table.add_column(title, no_wrap=True, justify="right" if right else "left")
    for one in found.machines:
        node = one.node
        table.add_row(
            Text(node.name, style="red" if one.left_over else ""),
            node.size,
            node.address,
            age(now - node.created_at),
            spent(one.cost),
            dollars(node.price_hourly),
        )
    console.print(table)
    console.print(f"\ncost      {spent(found.cost)} so far; {rate(found.price_hourly)}")
    for one in found.machines:
        if one.left_over:
            console.print(f"left over {one.node.name} ({one.node.identity}): {one.left_over}", style="red")
    if not found.machines:
        names = ", ".join(f"{one.kind} {one.name}" for one in found.others)
        console.print(f"left over {names}", style="red")


def _resources(found: Sequence[Resource], now: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("stack", "what", "name", "state", "age", "cost", "per hour"):
        right = title in {"age", "cost", "per hour"}
        table.add_column(title, no_wrap=True, justify="right" if right else "left")
    by_stack: dict[str, list[Resource]] = defaultdict(list)
    for one in found:
        by_stack[one.stack].append(one)
    for stack, resources in by_stack.items():
        for one in resources:
            bare = not any(other.kind == "droplet" for other in resources)
            table.add_row(
                stack,
                one.kind,
                one.name,
                Text(one.state or "", style="red" if one.state in {"off", "archive"} or bare else ""),
                age(now - one.created_at) if one.created_at else "",
                spent(one.cost(now)) if one.price_hourly else "",
                dollars(one.price_hourly) if one.price_hourly else "",
            )
    return table


def _talk() -> Console:
    return talking()
