"""A node leaves the stack: first its jobs end, then it goes; or it is lost already."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cloudburst.commands import docker, firewall, machine
from cloudburst.commands.command import Command
from cloudburst.errors import CommandError, StackError
from cloudburst.rqwire import nodes
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.held import Held, held
from cloudburst.rqwire.workers import workers
from cloudburst.stack.interruption import Interrupted
from cloudburst.stack.lock import held as locked
from cloudburst.stack.swarm import facts as state
from cloudburst.stack.swarm import operator, removal
from cloudburst.stack.swarm.deploy import LOCK_WAIT_S, known, reached
from cloudburst.stack.swarm.facts import MachineFacts, Node
from cloudburst.stack.swarm.paths import SwarmPaths
from cloudburst.stack.swarm.runner import Runner, Say
from cloudburst.stack.swarm.settings import Settings

POLL_S = 1.0
TOLD_S = 30.0
"""How often it is told that nothing has changed."""

STOP_S = 150.0
"""The grace period of the worker's service, and a little more."""

GONE_S = 60.0
"""The swarm notices within seconds that a node has left."""


class NoSuchNode(StackError):
    """What was named is not a node of the stack, or is its master."""


class NodeDown(StackError):
    """The node does not answer the swarm, so its jobs cannot be waited for."""


class NodeAnswers(StackError):
    """A node that was said to be lost answers the swarm."""


@dataclass(frozen=True)
class Leaving:
    """The node that is to go, and what is needed for it."""

    node: Node
    host: str
    """Name of its Host; "" when none of the stack's hosts is that node."""
    stack: str


def drain(
    environ: Mapping[str, str],
    stack: str,
    name: str,
    say: Say,
    *,
    timeout_s: float | None = None,
    lost: bool = False,
    purge: bool = False,
) -> None:
    """Let the node end its jobs, and take it out of the stack; its machine stays as it was before.

    ``lost``: it does not answer any more and never will; its jobs run elsewhere already. ``purge``: remove
    built environments, too. Raises StackError when jobs still run after ``timeout_s``: the node goes on
    draining then, as it does when this is interrupted.
    """
    paths, settings = known(environ, stack)
    with reached(environ, paths, settings, say) as (runner, hosts):
        there = _facts(runner, runner.names[0], stack)
        addresses = {host.name: str(getattr(host, "address", host.name)) for host in hosts}
        leaving = find(name, there, addresses, stack)
        with operator.queue(environ, stack) as queue:
            if lost:
                _check_lost(leaving, name)
            else:
                _check_there(leaving, name)
                _drained(queue, leaving, say, timeout_s)
            with locked(paths.lock, say, time.sleep, LOCK_WAIT_S):
                if lost:
                    runner.do(runner.names[0], docker.node_remove(leaving.node.id, force=True))
                else:
                    _out_of_swarm(runner, queue, leaving)
                    _cleaned(runner, leaving, purge=purge)
                nodes.forget(queue, leaving.node.hostname)
                _forgotten(paths, settings, leaving)
                _shut_out(runner, leaving)
    say(f"{name} is not part of stack {stack} any more")


def undrain(environ: Mapping[str, str], stack: str, name: str, say: Say) -> None:
    """Let a node that is draining take jobs again. Raises StackError when there is no such node."""
    paths, settings = known(environ, stack)
    with reached(environ, paths, settings, say) as (runner, hosts), operator.queue(environ, stack) as queue:
        addresses = {host.name: str(getattr(host, "address", host.name)) for host in hosts}
        leaving = find(name, _facts(runner, runner.names[0], stack), addresses, stack)
        nodes.set_draining(queue, leaving.node.hostname, False)
    say(f"{name} takes jobs again")


def find(name: str, master: MachineFacts, addresses: Mapping[str, str], stack: str) -> Leaving:
    """The node that ``name`` is: as in ``--hosts``, its host name, or its address.

    ``addresses`` are those of the stack's hosts, the master first. Raises StackError.
    """
    wanted = name.rpartition("@")[2]
    ours = [node for node in master.nodes if any(label.startswith("cloudburst.") for label in node.labels)]
    meant = {wanted, addresses.get(wanted, wanted)}
    found = [node for node in ours if meant & {node.hostname, node.address, node.id}]
    if len(found) != 1:
        there = ", ".join(node.hostname for node in ours)
        raise NoSuchNode(f"{name!r} is not a node of stack {stack}; there are {there}")
    node = found[0]
    if node.id == master.node_id:
        raise NoSuchNode(f"{name} is the master of stack {stack}, and cannot leave it; -d takes it down")
    same = [host for host, address in addresses.items() if {host, address} & {node.hostname, node.address}]
    return Leaving(node, same[0] if same else "", stack)


def progress(jobs: list[Held], node: str, now: float) -> str:
    """What an operator wants to know of a node: ``a: 3 jobs still run, the longest for 4 min``."""
    if not jobs:
        return f"{node}: no jobs run there"
    longest = now - min(job.since for job in jobs)
    many = f"{len(jobs)} jobs still run, the longest" if len(jobs) > 1 else "1 job still runs,"
    return f"{node}: {many} for {_span(longest)}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _facts(runner: Runner, host: str, stack: str) -> MachineFacts:
    return state.parse(runner.read(host, machine.facts(stack)))


def _check_there(leaving: Leaving, name: str) -> None:
    if leaving.node.state != "ready":
        raise NodeDown(
            f"{name} is {leaving.node.state}: start it and drain it then; "
            f"if it is gone for good: --drain {name} --lost"
        )
    if not leaving.host:
        raise StackError(
            f"{name} is not among the stack's hosts: deploy with it named in --hosts, then drain it"
        )


def _check_lost(leaving: Leaving, name: str) -> None:
    if leaving.node.state == "ready":
        raise NodeAnswers(f"{name} answers the swarm, so it is not lost: leave out --lost")


def _drained(queue: Redis, leaving: Leaving, say: Say, timeout_s: float | None) -> None:
    """Return when the node's worker holds no job, and will claim none."""
    node = leaving.node.hostname
    again = f"--drain {node} goes on, --undrain {node} lets it take jobs again"
    began = time.monotonic()
    told, told_at = 0, 0.0
    try:
        nodes.set_draining(queue, node, True)
        say(f"{node}: takes no new jobs")
        while True:
            jobs, noticed = _jobs_of(queue, node)
            if noticed and not jobs:
                return
            now = time.monotonic()
            line = progress(jobs, node, time.time())
            if jobs and (len(jobs) != told or now - told_at > TOLD_S):
                say(line)
                told, told_at = len(jobs), now
            if timeout_s is not None and now - began > timeout_s:
                raise StackError(f"{line}, after {timeout_s:g} s. It takes no new ones: {again}")
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {node} takes no new jobs: {again}") from None


def _jobs_of(queue: Redis, node: str) -> tuple[list[Held], bool]:
    """What the node's worker holds, and whether it has noticed that the node is to be drained."""
    mine = [one for one in workers(queue) if one.node == node]
    named = {one.name for one in mine}
    jobs = [job for job in held(queue) if job.worker in named]
    return jobs, all(one.state in {"draining", "stopping"} for one in mine)


def _out_of_swarm(runner: Runner, queue: Redis, leaving: Leaving) -> None:
    master, node = runner.names[0], leaving.node
    with runner.step(leaving.host, "stopping its worker"):
        runner.do(master, docker.node_labels(node.id, {"cloudburst.worker": ""}))
        _wait(
            f"{leaving.host}: its worker has not ended",
            STOP_S,
            lambda: not any(one.node == node.hostname for one in workers(queue)),
        )
    with runner.step(leaving.host, "leaving the swarm"):
        runner.do(leaving.host, docker.swarm_leave())
        _wait(
            f"{leaving.host} has left the swarm, which does not notice",
            GONE_S,
            lambda: _removed(runner, node),
        )


def _removed(runner: Runner, node: Node) -> bool:
    try:
        runner.do(runner.names[0], docker.node_remove(node.id))
    except CommandError as error:
        if "is not down" not in error.stderr:
            raise
        return False
    return True


def _cleaned(runner: Runner, leaving: Leaving, *, purge: bool) -> None:
    """Take away from the machine what the stack has put there; Docker stays."""
    host, stack = leaving.host, leaving.stack
    with runner.step(host, "removing the stack's files"):
        removal.await_containers(runner, host, stack, time.monotonic() + GONE_S)
        # Out of the swarm, the machine does not know its manager any more, where the registry is.
        manager = _facts(runner, runner.names[0], stack).swarm_address
        there = replace(_facts(runner, host, stack), managers=(manager,))
        removal.clear_machine(runner, host, stack, {host: there}, purge=purge)


def _forgotten(paths: SwarmPaths, settings: Settings, leaving: Leaving) -> None:
    """Take the host off the list, so that the next deployment does not take it back in."""
    stay = tuple(
        host
        for host, target in zip(settings.hosts, settings.targets, strict=True)
        if target.host != leaving.host
    )
    replace(settings, hosts=stay).save(paths.settings)


def _shut_out(runner: Runner, leaving: Leaving) -> None:
    """Close the ports between nodes to the one that has left."""
    stay = [host for host in runner.names if host != leaving.host]
    master = _facts(runner, stay[0], leaving.stack)
    script = firewall.script([node.address for node in master.nodes])
    for host in stay:
        with contextlib.suppress(CommandError):  # one that does not answer gets it with the next deployment
            runner.do(host, machine.write_file(firewall.SCRIPT, script, 0o755))
            runner.do(host, Command((firewall.SCRIPT,)))


def _wait(otherwise: str, timeout_s: float, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise StackError(f"{otherwise} within {timeout_s:g} s: run it again to go on")
        time.sleep(POLL_S)
