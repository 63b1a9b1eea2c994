"""``cloudburst stack``: start, stop and show a stack. ``./buildstack.sh`` hands over to it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cloudburst import config, names
from cloudburst.errors import ConfigError
from cloudburst.model import Endpoints
from cloudburst.stack import local
from cloudburst.stack.settings import Wishes
from cloudburst.stack.status import StackStatus
from cloudburst.stack.status import status as read_status

EXIT_STOPPED = 3
EXIT_PARTIAL = 4

STATES = {
    "absent": "not started",
    "running": "running",
    "silent": "no answer",
    "killed": "killed",
    "stale": "stale",
}

F = TypeVar("F", bound=Callable[..., Any])
PORT = click.IntRange(0, 65535)


def _which_stack(command: F) -> F:
    """Options that every command has: where the stack is, and its name."""
    place = click.option("--local", "is_local", is_flag=True, help="The stack on this machine.")
    name = click.option(
        "--name",
        "stack_name",
        metavar="STACK",
        default=names.LOCAL_STACK,
        show_default=True,
        help="Its name.",
    )
    return place(name(command))


@click.group()
def stack() -> None:
    """Start, stop and show a stack: queue, file store, points, queue-dash and a worker."""


@stack.command()
@_which_stack
@click.option("-n", "--slots", type=click.IntRange(min=1), help="Jobs at a time [default: one per CPU].")
@click.option("--redis-port", type=PORT, help="Port of the queue; 0: any free one.")
@click.option("--file-port", type=PORT, help="Port of the file store.")
@click.option("--influx-port", type=PORT, help="Port for points.")
@click.option("--dash-port", type=PORT, help="Port of queue-dash.")
@click.option(
    "--auth/--no-auth", "auth", default=None, help="Redis with or without a password [default: with]."
)
def up(is_local: bool, stack_name: str, **said: Any) -> None:
    """Start a stack, or whatever is missing or wrong of it. What you do not say stays as it was."""
    _need_local(is_local)
    talk = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    started = local.up(os.environ, stack_name, _wishes(os.environ, said), _say(talk))
    if started.changed:
        talk.print()
    else:
        since = _moment(started.since)
        talk.print(f"nothing to do: stack {stack_name} has been running since {since}", style="green")
    _print_endpoints(started)


@stack.command()
@_which_stack
@click.option("--purge", is_flag=True, help="Also remove results, files, environments and logs.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before removing.")
def down(is_local: bool, stack_name: str, purge: bool, yes: bool) -> None:
    """Stop a stack. Results and files stay, unless they are purged."""
    _need_local(is_local)
    directory = config.stack_dir(os.environ, stack_name)
    if purge and directory.exists() and not yes:
        _ask(f"Remove stack {stack_name} with its results and files, {directory}?")
    talk = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    existed = directory.exists()
    stopped = local.down(os.environ, stack_name, _say(talk), purge=purge)
    if not existed:
        talk.print(f"nothing to do: there is no stack {stack_name} ({directory} does not exist)")
    elif purge:
        talk.print(f"stack {stack_name} is {'stopped and ' if stopped else ''}removed, {directory} too")
    elif stopped:
        talk.print(f"stack {stack_name} is stopped; results and files stay in {directory}")
    else:
        talk.print(f"nothing to do: stack {stack_name} was not running")


@stack.command()
@_which_stack
def status(is_local: bool, stack_name: str) -> None:
    """Show what runs, since when, on which ports; the queue, workers and slots.

    Exits with 0 when all is well, 3 when the stack is stopped, 4 when something is wrong with it.
    """
    _need_local(is_local)
    found = read_status(os.environ, stack_name)
    console = Console(highlight=False, markup=False)
    start = "./buildstack.sh --local" + _name_flag(stack_name)
    if found.state == "absent":
        console.print(f"stack {stack_name} was never started here; start it: {start}")
        sys.exit(EXIT_STOPPED)
    if found.state == "stopped":
        console.print(f"stack {stack_name} is stopped; start it: {start}")
        for service in found.services:
            if service.detail:
                console.print(f"{service.name}: {service.detail}")
        sys.exit(EXIT_STOPPED)
    _print_services(console, found)
    _print_queue(console, found)
    if found.state == "partial":
        console.print(f"\nsomething is wrong with stack {stack_name}; repair it: {start}", style="yellow")
        sys.exit(EXIT_PARTIAL)


def _need_local(is_local: bool) -> None:
    if not is_local:
        raise ConfigError("say where the stack is: --local means this machine, the only place so far")


def _wishes(environ: config.Environ, said: dict[str, Any]) -> Wishes:
    """What the command line and the environment say."""
    return Wishes(
        **said,
        influx_url=environ.get("INFLUX_URL"),
        influx_org=environ.get("INFLUX_ORG"),
        influx_bucket=environ.get("INFLUX_BUCKET"),
        influx_token=config.secret(environ, "INFLUX_TOKEN") or None,
        token=config.secret(environ, "CLOUDBURST_TOKEN") or None,
        builds=config.for_builds(environ),
    )


def _say(talk: Console) -> Callable[[str], None]:
    return talk.print


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError("--purge removes results for good, and there is nobody to ask: add -y to do it")
    click.confirm(question, abort=True, err=True)


def _print_endpoints(started: local.Started) -> None:
    where, slots = started.endpoints, started.settings.slots
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"Stack {where.stack} is running, with {slots} slot{'s' if slots > 1 else ''}.")
    for name, address in _addresses(where):
        console.print(f"  {name:<12}{address}")
    flag = _name_flag(where.stack)
    console.print(f"Passwords and tokens: {config.stack_dir(os.environ, where.stack) / 'endpoints.json'}")
    stack = f"CLOUDBURST_STACK={where.stack} " if flag else ""
    console.print(f"\nNext: {stack}client/run.py --jobs 100")
    console.print(f"Look: ./buildstack.sh --local{flag} --status    Stop: ./buildstack.sh --local{flag} -d")


def _addresses(where: Endpoints) -> list[tuple[str, str]]:
    return [
        ("queue", where.redis_url.rpartition("@")[2].removeprefix("redis://").removesuffix("/0")),
        ("filestore", where.filestore_url),
        ("influx", where.influx_url),
        ("queue-dash", where.queue_dash_url),
    ]


def _print_services(console: Console, found: StackStatus) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("service", "state", "port", "pid", "since", "memory"):
        table.add_column(title, no_wrap=True, justify="right" if title == "memory" else "left")
    for service in found.services:
        well = service.state == "running"
        table.add_row(
            service.name,
            Text(STATES[service.state], style="green" if well else "red"),
            str(service.port or ""),
            str(service.pid or ""),
            _moment(service.since) if service.since else "",
            f"{service.memory_bytes / 1e6:,.0f} MB" if service.memory_bytes else "",
        )
    console.print(table)
    for service in found.services:
        if service.detail:
            console.print(f"{service.name}: {service.detail}")


def _print_queue(console: Console, found: StackStatus) -> None:
    queue = found.queue
    if queue is None:
        return
    console.print(f"\nqueue     {queue.waiting:,} jobs waiting")
    for worker in queue.workers:
        console.print(f"worker    {worker.name}: {worker.state}, {worker.busy} of {worker.slots} slots busy")
    if not queue.workers:
        console.print("worker    none: jobs wait until there is one")
    for one in queue.ensembles:
        console.print(
            f"ensemble  {one.id}: {one.ended:,} of {one.total:,} done, {one.failed:,} of them failed, "
            f"{one.running:,} running"
        )


def _moment(unix_s: float) -> str:
    """``14:05 (3 h 12 min)``, in local time; with the date unless that is today's."""
    then = datetime.fromtimestamp(unix_s).astimezone()
    minutes = max(0, int(time.time() - unix_s)) // 60
    hours, rest = divmod(minutes, 60)
    ago = f"{hours} h {rest} min" if hours else f"{rest} min" if rest else "just now"
    today = then.date() == datetime.now().astimezone().date()
    return f"{then:%H:%M}{'' if today else f' on {then:%Y-%m-%d}'} ({ago})"


def _name_flag(stack_name: str) -> str:
    return "" if stack_name == names.LOCAL_STACK else f" --name {stack_name}"
