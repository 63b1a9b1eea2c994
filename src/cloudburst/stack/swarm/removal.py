"""Taking a stack on a swarm down."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shutil import rmtree

from cloudburst.commands import docker, firewall, machine
from cloudburst.commands.command import Command
from cloudburst.errors import CloudburstError, CommandError, StackError
from cloudburst.stack.lock import held
from cloudburst.stack.refusals import explained
from cloudburst.stack.swarm import deploy, machines
from cloudburst.stack.swarm.facts import MachineFacts
from cloudburst.stack.swarm.runner import Runner, Say

GONE_S = 180.0
"""Longest time for containers to end."""

FORGOTTEN_S = 10.0
"""Containers that ended longer ago are of tasks that the swarm has forgotten: it does not remove them."""

RELEASED_S = 30.0


@dataclass(frozen=True)
class Removed:
    """What a removal has led to."""

    left: tuple[str, ...]
    """What is still there of the stack: its volumes, if they were to stay."""


def down(environ: Mapping[str, str], stack: str, say: Say, *, purge: bool) -> Removed:
    """Take the stack down; ``purge`` also removes its volumes, images and everything that is kept here.

    Raises StackError when something could not be removed: run it again.
    """
    paths, settings = deploy.known(environ, stack)
    with (
        explained(),
        held(paths.lock, say, time.sleep, deploy.LOCK_WAIT_S),
        deploy.reached(environ, paths, settings, say) as (runner, _hosts),
    ):
        there = deploy.read(runner, stack)
        # First, so that a client that starts now is told that there is no stack.
        paths.endpoints.unlink(missing_ok=True)
        master = runner.names[0]
        if there[master].manager:
            _services(runner, master, stack)
            _secrets(runner, master, there[master])
        names = runner.names
        with runner.threads(len(names)) as pool:
            # Workers leave before the master ends the swarm.
            asked = [
                pool.submit(clear_machine, runner, name, stack, there, purge=purge) for name in names[1:]
            ]
            problems = [str(error) for one in asked if isinstance(error := one.exception(), CloudburstError)]
        clear_machine(runner, master, stack, there, purge=purge)
        after = deploy.read(runner, stack)
        left = tuple(f"{host}: volume {name}" for host in names for name in sorted(after[host].volumes))
        if problems or (purge and left):
            raise StackError("\n".join([*problems, *left, "not everything could be removed: run it again"]))
    if purge:
        rmtree(paths.root)
    return Removed(left)


def _services(runner: Runner, master: str, stack: str) -> None:
    with runner.step(master, "stopping the services; jobs that run get their time to end"):
        if runner.read(master, docker.services(stack)):
            _unless_used(runner, master, docker.stack_remove(stack), GONE_S)
        deadline = time.monotonic() + GONE_S
        for name in runner.names:
            await_containers(runner, name, stack, deadline)


def await_containers(runner: Runner, host: str, stack: str, deadline: float) -> None:
    """Until the machine has no container of the stack. ``deadline``: monotonic seconds.

    Raises StackError, which names them, when some still run then.
    """
    forgotten = time.monotonic() + FORGOTTEN_S
    while left := [line.split() for line in runner.read(host, docker.containers(stack)).splitlines()]:
        running = [name for _, state, name in left if state not in {"created", "exited", "dead"}]
        if not running and time.monotonic() > forgotten:
            with contextlib.suppress(CommandError):  # the swarm removes them at this moment
                runner.do(host, docker.container_remove(*(one for one, _, _ in left)))
        if time.monotonic() > deadline:
            names = ", ".join(running or [name for _, _, name in left])
            raise StackError(
                f"{host}: containers of stack {stack} do not end: {names}; see `docker ps --all` there"
            )
        time.sleep(0.5)


def _secrets(runner: Runner, master: str, there: MachineFacts) -> None:
    if there.secrets:
        runner.do(master, docker.secret_remove(sorted(there.secrets)))
    if there.configs:
        runner.do(master, docker.config_remove(sorted(there.configs)))


def remove_volumes(runner: Runner, host: str, names: Sequence[str]) -> None:
    """Remove volumes whose containers have just ended. Raises CommandError when others still use one."""
    _unless_used(runner, host, docker.volume_remove(names), RELEASED_S)


def _unless_used(runner: Runner, host: str, command: Command, longest_s: float) -> None:
    """Remove what nothing uses any more, by a command that can be repeated.

    The engine lets go of volumes and networks a moment after it says that a container or a task has ended.
    """
    deadline = time.monotonic() + longest_s
    while True:
        try:
            return runner.do(host, command)
        except CommandError as error:
            passing = "in use" in error.stderr or "not found" in error.stderr  # gone while it was looked for
            if not passing or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def clear_machine(
    runner: Runner, host: str, stack: str, all_there: Mapping[str, MachineFacts], *, purge: bool
) -> None:
    """Everything of the stack on one machine. A swarm that was there before the stack stays."""
    there = all_there[host]
    if purge and there.volumes:
        with runner.step(host, f"removing {', '.join(sorted(there.volumes))}"):
            remove_volumes(runner, host, sorted(there.volumes))
    # Before it leaves the swarm, which tells where the registry is.
    places = [f"/etc/docker/certs.d/{manager}:{machines.REGISTRY_PORT}/" for manager in there.managers]
    ours = (f"{machines.directory(stack)}/", *places)
    runner.do(host, machine.remove_files([path for path in there.files if path.startswith(ours)]))
    if firewall.SCRIPT in there.files:
        runner.do(host, firewall.remove(systemd=there.systemd))
    if there.swarm_state not in {"", "inactive"}:
        own = next((node for node in there.nodes if node.id == there.node_id), None)
        if own is None or own.labels.get(docker.BEGUN_LABEL) == stack:
            with runner.step(host, "leaving the swarm"):
                runner.do(host, docker.swarm_leave())
        else:
            labels = {name: "" for name in own.labels if name.startswith("cloudburst.")}
            runner.do(host, docker.node_labels(own.id, labels))
    if there.docker:
        runner.do(host, docker.container_remove(machines.registry_name(stack)))
    if purge and there.docker:
        runner.do(host, docker.remove_images(stack))
        for command in (
            docker.volume_remove([machines.registry_name(stack)]),
            docker.network_remove("docker_gwbridge"),  # Docker makes it for a swarm, and leaves it
        ):
            with contextlib.suppress(CommandError):  # not there, or somebody else's containers use it
                runner.do(host, command)
