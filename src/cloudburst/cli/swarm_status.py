"""``--status`` of stacks on swarms."""

from __future__ import annotations

import os
import time

from rich.table import Table
from rich.text import Text

from cloudburst import config
from cloudburst.cli.swarm import flag
from cloudburst.commands import machine
from cloudburst.console import Terminal
from cloudburst.errors import StackError
from cloudburst.rqwire import ending
from cloudburst.stack.swarm import deploy
from cloudburst.stack.swarm import facts as state
from cloudburst.stack.swarm.facts import MachineFacts
from cloudburst.stack.swarm.paths import SwarmPaths
from cloudburst.stack.swarm.settings import Kind, Settings
from cloudburst.stack.swarm.status import NodeStatus, SwarmStatus, size
from cloudburst.stack.swarm.status import status as read_status

WELL, STOPPED, PARTIAL = 0, 3, 4
"""Exit codes, as of stacks on this machine."""

_GOOD = {"ready", "draining", "drained", "paused"}


def show(kind: Kind, stack: str, again: str = "") -> int:
    """Look at the stack and print how it is; the exit code. Raises ConfigError for one that is not known.

    ``again`` is the command that deploys it; "": as its hosts were said.
    """
    console = Terminal(soft_wrap=True)
    paths, settings = deploy.known(os.environ, stack)
    master, unreachable = _ask(paths, settings, stack)
    endpoints = config.read_endpoints(paths.endpoints)
    found = read_status(stack, master, unreachable, endpoints, time.time())
    again = again or f"./buildstack.sh {flag(kind, stack, ','.join(settings.hosts))}"
    if found.state == "stopped":
        console.print(f"stack {stack} is not running; deploy it: {again}")
        return STOPPED
    console.print(_nodes(found))
    console.print()
    _print_inside(console, found)
    for line in found.problems:
        console.print(f"wrong     {line}", style="red")
    for line in found.warnings:
        console.print(f"warning   {line}", style="yellow")
    if found.problems:
        advice = f"; deploy it again: {again}" if found.deploy_again else ""
        console.print(f"\nsomething is wrong with stack {stack}{advice}", style="yellow")
        return PARTIAL
    return WELL


def _ask(paths: SwarmPaths, settings: Settings, stack: str) -> tuple[MachineFacts | None, str]:
    """What the master says; or None, and why it cannot be asked."""
    try:
        with deploy.reached(os.environ, paths, settings, lambda _line: None) as (runner, _hosts):
            return state.parse(runner.read(runner.names[0], machine.facts(stack))), ""
    except StackError as error:
        return None, str(error)


def _nodes(found: SwarmStatus) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("node", "state", "address", "busy", "CPU", "memory GB", "free disk GB"):
        right = title not in {"node", "state", "address"}
        table.add_column(title, no_wrap=True, justify="right" if right else "left")
    for node in found.nodes:
        table.add_row(
            f"{node.name} (master)" if node.master else node.name,
            Text(node.state, style="green" if node.state in _GOOD else "red"),
            node.address,
            f"{node.busy} of {node.slots}" if node.slots else "",
            *_measured(node),
        )
    return table


def _measured(node: NodeStatus) -> tuple[str, ...]:
    if node.reading is None:
        return ("", "", "")
    reading = node.reading
    return (
        f"{reading.cpu_percent:.0f} %",
        f"{_gb(reading.memory_used_bytes)} of {_gb(reading.memory_total_bytes)}",
        f"{_gb(reading.disk_free_bytes)} of {_gb(reading.disk_total_bytes)}",
    )


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f}" if count < 10e9 else f"{count / 1e9:,.0f}"


def _print_inside(console: Terminal, found: SwarmStatus) -> None:
    counts = ", ".join(
        f"{one.name.removeprefix(f'{found.stack}_')} {one.running}/{one.wanted}" for one in found.services
    )
    if counts:
        console.print(f"services  {counts}")
    queue, server = found.inside.queue, found.inside.server
    if queue is None or server is None:
        return
    console.print(f"queue     {queue.waiting:,} jobs waiting, {queue.running:,} running")
    console.print(f"lost      {queue.leases_lost:,} leases so far, {queue.jobs_set_aside:,} jobs set aside")
    limit = f" of {size(server.memory_limit_bytes)}" if server.memory_limit_bytes else ""
    console.print(
        f"redis     {size(server.memory_used_bytes)}{limit} of memory, {size(server.aof_bytes)} on disk"
    )
    if found.inside.ending and any(
        one.name == f"{found.stack}_keeper" and one.wanted for one in found.services
    ):
        console.print(f"end       {ending.sentence(found.inside.ending, time.time())}")
    for one in found.inside.ensembles:
        console.print(
            f"ensemble  {one.id}: {one.ended:,} of {one.total:,} done, {one.failed:,} of them failed, "
            f"{one.running:,} running"
        )
