"""``cloudburst stack``: start, stop and show a stack. ``./buildstack.sh`` hands over to it.

It is long because it is a list: the options of each verb, and what they are handed to.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cloudburst import config, names
from cloudburst.cli import cloud, swarm, swarm_status
from cloudburst.cli.options import Duration
from cloudburst.console import Terminal, talking
from cloudburst.errors import ConfigError
from cloudburst.model import Endpoints
from cloudburst.stack import local
from cloudburst.stack.cloud.settings import STACK_NAME as CLOUD_STACK
from cloudburst.stack.settings import Wishes
from cloudburst.stack.status import StackStatus
from cloudburst.stack.status import status as read_status
from cloudburst.stack.swarm.settings import STACK_NAMES, Kind, kind_of

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


KINDS = {"local": "--local", "docker": "--docker", "hosts": "--hosts", "cloud": "machines at DigitalOcean"}


USUAL = {
    "local": names.LOCAL_STACK,
    "docker": STACK_NAMES["docker"],
    "hosts": STACK_NAMES["hosts"],
    "cloud": CLOUD_STACK,
}
"""Names of stacks that are given no other."""


@dataclass(frozen=True)
class Where:
    """Which stack is meant."""

    kind: str
    """``local``, ``docker``, ``hosts`` or ``cloud``."""
    name: str
    hosts: str | None
    """As the user wrote them; None when they were not said."""

    @property
    def swarm(self) -> Kind | None:
        """What kind of swarm it is on; None for the stack on this machine."""
        kinds: dict[str, Kind] = {"docker": "docker", "hosts": "hosts", "cloud": "hosts"}
        return kinds.get(self.kind)

    @property
    def cloud(self) -> bool:
        """Whether its machines are made for it at a provider."""
        return self.kind == "cloud"


def _which_stack(command: F) -> F:
    """Options that every command has: where the stack is, and its name. They become one argument."""

    @functools.wraps(command)
    def with_where(
        is_local: bool, is_docker: bool, hosts: str | None, stack_name: str | None, **said: Any
    ) -> Any:
        return command(_where(is_local, is_docker, hosts, stack_name), **said)

    local_ = click.option("--local", "is_local", is_flag=True, help="The stack on this machine.")
    docker_ = click.option("--docker", "is_docker", is_flag=True, help="The stack on this machine's Docker.")
    hosts_ = click.option(
        "--hosts", metavar="HOST,...", help="The stack on these machines, the master first."
    )
    default = "cloud, local, docker or swarm, by where it is"
    name = click.option("--name", "stack_name", metavar="STACK", help=f"Its name [default: {default}].")
    return local_(docker_(hosts_(name(with_where))))  # type: ignore[return-value]


def _where(is_local: bool, is_docker: bool, hosts: str | None, name: str | None) -> Where:
    said = [
        kind
        for kind, yes in (("local", is_local), ("docker", is_docker), ("hosts", hosts is not None))
        if yes
    ]
    if len(said) > 1:
        raise ConfigError(f"{' and '.join(KINDS[kind] for kind in said)}: a stack is in one place")
    if said and cloud.is_known(name or USUAL[said[0]]):
        raise ConfigError(
            f"stack {name or USUAL[said[0]]} is at DigitalOcean: leave out {KINDS[said[0]]}, "
            "or choose another --name"
        )
    if said:
        kind = said[0]
    elif cloud.is_known(name or CLOUD_STACK):
        kind = "cloud"
    elif name and (known := kind_of(os.environ, name)):
        kind = known
    elif cloud.has_token():
        kind = "cloud"
    else:
        raise ConfigError(
            "say where the stack is: --local, --docker or --hosts root@master,root@a; "
            "for machines at DigitalOcean, give a token: export DOTOKEN=..."
        )
    return Where(kind, name or USUAL[kind], hosts)


@click.command()
@_which_stack
@click.option("-n", "--nodes", type=click.IntRange(min=0), help="Compute nodes beside the master.")
@click.option("--size", help="Size of the nodes [default: s-2vcpu-4gb].")
@click.option("--master-size", metavar="SIZE", help="Size of the master [default: s-2vcpu-4gb].")
@click.option("--region", help="Where they are [default: fra1].")
@click.option("--image", help="What they run [default: ubuntu-24-04-x64].")
@click.option(
    "--allow", multiple=True, metavar="CIDR", help="Who may reach the stack [default: auto, this address]."
)
@click.option("--max-cost", metavar="DOLLARS", help="Refuse what costs more, as 5/h or 50/d.")
@click.option("--ttl", metavar="TIME", help="The stack ends itself so long after its creation, as 8h.")
@click.option("--idle", metavar="TIME", help="The stack ends itself when idle for so long, as 30m.")
@click.option("--save-to", metavar="DIR", help="A watching client saves results there before that.")
@click.option("--min", "min_nodes", type=click.IntRange(min=0), help="Elastic: fewest nodes.")
@click.option("--max", "max_nodes", type=click.IntRange(min=0), help="Elastic: most nodes; 0: not elastic.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before machines are created or destroyed.")
@click.option("--slots", type=click.IntRange(min=1), help="--local: jobs at a time [default: one per CPU].")
@click.option("--redis-port", type=PORT, help="Port of the queue; 0: any free one.")
@click.option("--file-port", type=PORT, help="Port of the file store.")
@click.option("--influx-port", type=PORT, help="Port for points.")
@click.option("--dash-port", type=PORT, help="Port of queue-dash.")
@click.option(
    "--auth/--no-auth", "auth", default=None, help="Redis with or without a password [default: with]."
)
@click.option("--https-port", type=PORT, help="Swarms: port of the gateway [default: 443].")
@click.option("--queue-port", type=PORT, help="Swarms: port of the queue [default: 6380].")
@click.option("--ssh-key", metavar="FILE", help="Private key for --hosts.")
@click.option("--ssh-config", metavar="FILE", help="In place of ~/.ssh/config.")
@click.option("--private-interface", metavar="NAME", help="Network interface between the machines, as eth1.")
@click.option("--tls-cert", metavar="FILE", help="A certificate of your own for the gateway, with its chain.")
@click.option("--tls-key", metavar="FILE", help="Its key.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def up(where: Where, dry_run: bool, yes: bool, **said: Any) -> None:
    """Start a stack, or whatever is missing or wrong of it. What you do not say stays as it was."""
    said["allow"] = said["allow"] or None
    if where.kind == "local" and said["nodes"] is not None:
        if said["nodes"] < 1:
            raise ConfigError("-n: a stack on this machine has at least one slot")
        said |= {"slots": said["slots"] or said["nodes"], "nodes": None}  # what -n means there
    _check_flags(where, {**said, "dry_run": dry_run or None})
    if where.cloud:
        cloud.up(where.name, said, yes=yes, dry=dry_run)
        return
    if where.swarm:
        swarm.up(where.swarm, where.name, {**said, "hosts": where.hosts}, dry=dry_run)
        return
    stack_name = where.name
    said = {name: value for name, value in said.items() if name not in {*SWARM_ONLY, *cloud.WISHES}}
    talk = talking()
    started = local.up(os.environ, stack_name, _wishes(os.environ, said), _say(talk))
    if started.changed:
        talk.print()
    else:
        since = _moment(started.since)
        talk.print(f"nothing to do: stack {stack_name} has been running since {since}", style="green")
    _print_endpoints(started)


@click.command()
@_which_stack
@click.option("--purge", is_flag=True, help="Also remove results, files, environments and logs.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before removing.")
def down(where: Where, purge: bool, yes: bool) -> None:
    """Stop a stack. Results and files stay, unless they are purged.

    A stack at DigitalOcean is destroyed with everything on it, after asking.
    """
    stack_name = where.name
    if where.cloud:
        cloud.down(stack_name, yes=yes)
        return
    if where.swarm:
        if not yes:
            what = " with its results and files" if purge else ""
            cloud.ask(f"Take down stack {stack_name}{what}, on all its machines?")
        swarm.down(where.swarm, stack_name, purge=purge)
        return
    directory = config.stack_dir(os.environ, stack_name)
    if purge and directory.exists() and not yes:
        cloud.ask(f"Remove stack {stack_name} with its results and files, {directory}?")
    talk = talking()
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


@click.command()
@_which_stack
def status(where: Where) -> None:
    """Show what runs, since when, on which ports; the queue, workers and slots.

    Exits with 0 when all is well, 3 when the stack is stopped, 4 when something is wrong with it.
    """
    if where.cloud:
        sys.exit(cloud.status(where.name))
    if where.swarm:
        sys.exit(swarm_status.show(where.swarm, where.name))
    stack_name = where.name
    found = read_status(os.environ, stack_name)
    console = Terminal()
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
    for notice in found.notices:
        console.print(f"\n{notice}", style="yellow")
    if found.state == "partial":
        console.print(f"\nsomething is wrong with stack {stack_name}; repair it: {start}", style="yellow")
        sys.exit(EXIT_PARTIAL)


SWARM_ONLY = (*(name for name in swarm.WISHES if name != "hosts"), "dry_run")
FLAGS = {"nodes": "-n", "min_nodes": "--min", "max_nodes": "--max"}
LOCAL_ONLY = ("slots", "redis_port", "file_port", "influx_port", "dash_port", "auth")


@click.command()
@click.option("--name", "stack_name", metavar="STACK", help="Only this stack.")
@click.option("-y", "--yes", is_flag=True, help="Destroy the stack that is named without asking.")
def audit(stack_name: str | None, yes: bool) -> None:
    """Show what there is at DigitalOcean of any stack, from any machine, and offer to destroy it."""
    cloud.audit(stack_name, yes=yes)


@click.command()
@click.option(
    "--name", "stack_name", metavar="STACK", default=CLOUD_STACK, show_default=True, help="Its name."
)
@click.option("--save-to", type=click.Path(path_type=Path), metavar="DIR", help="Where to save results.")
def watch(stack_name: str, save_to: Path | None) -> None:
    """Save the results of each ensemble when it is done, and all there are before the stack ends by itself.

    A stack with --ttl or --idle waits for this, for a while. Each ensemble is a Parquet file.
    """
    cloud.watch(stack_name, save_to)


@click.command()
@_which_stack
def elastic(where: Where) -> None:
    """Let a stack that was made with --min and --max grow and shrink, until this is interrupted."""
    if not where.cloud:
        raise ConfigError(
            "elastic: only stacks whose machines are made for them grow, such as ./buildstack.sh -n1"
        )
    cloud.watch_load(where.name)


@click.command()
@_which_stack
@click.argument("nodes", metavar="NODE=SLOTS...", nargs=-1, required=True)
def scale(where: Where, nodes: tuple[str, ...]) -> None:
    """Let nodes of a swarm run so many jobs at a time; 0: one per CPU. Their workers start again."""
    swarm.need(where.swarm, "--scale")
    swarm.scale(where.name, nodes)


@click.command()
@_which_stack
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
@click.option("--tail", type=click.IntRange(0), default=200, show_default=True, help="Lines to begin with.")
@click.option("--node", default="", metavar="NODE", help="Only what it writes on that node.")
def logs(where: Where, service: str, follow: bool, tail: int, node: str) -> None:
    """Print what a service of a swarm writes, each line behind the name of its node, in the order of time."""
    if not where.swarm:
        raise ConfigError(
            f"logs of this machine's stack are in {config.stack_dir(os.environ, where.name)}/logs"
        )
    swarm.logs(where.name, service, node, follow=follow, tail=tail)


@click.command()
@_which_stack
@click.argument("node")
@click.option(
    "--timeout", "timeout_s", type=Duration(zero=True), metavar="TIME",
    help="How long jobs may take to end: 90s, 15min.",
)  # fmt: skip
@click.option("--lost", is_flag=True, help="The node is gone for good; its jobs run elsewhere.")
@click.option("--purge", is_flag=True, help="Remove built environments from its machine, too.")
def drain(where: Where, node: str, timeout_s: float | None, lost: bool, purge: bool) -> None:
    """Let a node of a swarm end its jobs, and take it out of the stack.

    At DigitalOcean its machine is removed, too; one that was --lost is replaced by the next deployment.
    """
    swarm.need(where.swarm, "--drain")
    if where.cloud:
        cloud.drain(where.name, node, timeout_s=timeout_s, lost=lost)
        return
    swarm.drain(where.name, node, timeout_s=timeout_s, lost=lost, purge=purge)


@click.command()
@_which_stack
@click.argument("node")
def undrain(where: Where, node: str) -> None:
    """Let a node of a swarm that is draining take jobs again."""
    swarm.need(where.swarm, "--undrain")
    swarm.undrain(where.name, node)


@click.command()
@_which_stack
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--with-secrets", is_flag=True, help="Save all passwords and certificates, too.")
def backup(where: Where, directory: Path, with_secrets: bool) -> None:
    """Save queue, files and results of a stack on a swarm into a folder here, while it works."""
    swarm.need(where.swarm, "--backup")
    swarm.backup(where.name, directory, with_secrets=with_secrets)


@click.command()
@_which_stack
@click.argument("directory", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("--force", is_flag=True, help="Give up jobs that run; take data of other versions.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before replacing what is there.")
def restore(where: Where, directory: Path, force: bool, yes: bool) -> None:
    """Make the queue, files and results of a stack on a swarm what they were when they were saved."""
    kind = swarm.need(where.swarm, "--restore")
    if not yes:
        cloud.ask(f"Replace all jobs, files and results of stack {where.name} by those in {directory}?")
    swarm.restore(kind, where.name, directory, force=force)


def _check_flags(where: Where, said: dict[str, Any]) -> None:
    """Raise ConfigError for a flag that another kind of stack has."""
    if where.cloud:
        others = {*SWARM_ONLY, *LOCAL_ONLY} - {*cloud.OF_SWARM, "dry_run"}
    else:
        others = {*cloud.WISHES, *(LOCAL_ONLY if where.swarm else SWARM_ONLY)}
    for name, value in said.items():
        if name in others and value is not None:
            flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
            raise ConfigError(f"{flag} is not for stacks of {KINDS[where.kind]}")


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


def _print_endpoints(started: local.Started) -> None:
    where, slots = started.endpoints, started.settings.slots
    console = Terminal(soft_wrap=True)
    console.print(f"Stack {where.stack} is running, with {slots} slot{'s' if slots > 1 else ''}.")
    for name, address in _addresses(where):
        console.print(f"  {name:<12}{address}")
    flag = _name_flag(where.stack)
    console.print(f"Passwords and tokens: {config.stack_dir(os.environ, where.stack) / 'endpoints.json'}")
    stack = f"CLOUDBURST_STACK={where.stack} " if flag else ""
    console.print(f"\nNext: {stack}.venv/bin/python client/run.py --jobs 100")
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
