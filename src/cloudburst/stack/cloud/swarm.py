"""What is done on the machines themselves: first contact, and the stack that is deployed on them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from cloudburst import config
from cloudburst.commands.command import Command
from cloudburst.commands.openssh import Target
from cloudburst.errors import CloudburstError, CommandError, QueueError, StackError
from cloudburst.hosts.ssh import SshHost
from cloudburst.rqwire import ending, nodes
from cloudburst.stack.cloud import keeping
from cloudburst.stack.cloud.openssh import USER
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.settings import Settings as FleetSettings
from cloudburst.stack.swarm import deploy, leaving, operator
from cloudburst.stack.swarm.deploy import Deployed
from cloudburst.stack.swarm.runner import Say
from cloudburst.stack.swarm.settings import Settings, Wishes
from cloudburst.stack.swarm.status import look

PRIVATE_INTERFACE = "eth1"
"""Of a droplet, towards its VPC."""

POLL_S = 2.0
TOLD_S = 20.0
COMMAND_S = 30.0

NOTICED_S = 90.0
"""The swarm notices within some ten seconds that a machine is gone."""


class Swarm(Protocol):
    """The stack on the machines of one fleet. Raises StackError."""

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the machines that a deployment has begun to take in, the master first."""
        ...

    @property
    def working(self) -> bool:
        """Whether a deployment was completed, so that there may be jobs."""
        ...

    def reach(self, names: Sequence[str], timeout_s: float) -> dict[str, str]:
        """Log in to each machine, waiting until it lets us in: our own address as it sees it, by its name.

        Those that do not answer in time are missing.
        """
        ...

    def deploy(self, names: Sequence[str]) -> Deployed:
        """Deploy the stack on these machines, the master first."""
        ...

    def announce(self, names: Sequence[str]) -> None:
        """These nodes are to take no new jobs, as far as they take any."""
        ...

    def drain(self, name: str, timeout_s: float | None) -> None:
        """Wait until the node's jobs have ended, and take it out; nothing happens when it is out already."""
        ...

    def lost(self, name: str) -> None:
        """Take out a node whose machine is gone."""
        ...

    def busy(self) -> str:
        """What would be given up if the stack ended now, in words; "" if nothing would, or nobody knows."""
        ...


class SwarmOfMachines:
    """The real one."""

    def __init__(
        self, environ: Mapping[str, str], root: Path, stack: str, wishes: Wishes | None, say: Say
    ) -> None:
        """``root`` is the project's checkout; ``wishes`` what was said beside the machines."""
        self._environ, self._root, self._stack, self._say = environ, root, stack, say
        self._wishes = wishes or Wishes(builds=config.for_builds(environ))
        self._paths = CloudPaths(config.stack_dir(environ, stack))

    @property
    def members(self) -> tuple[str, ...]:
        settings = Settings.load(self._paths.settings)
        return tuple(target.host for target in settings.targets) if settings else ()

    @property
    def working(self) -> bool:
        return self._paths.endpoints.exists()

    def reach(self, names: Sequence[str], timeout_s: float) -> dict[str, str]:
        if not names:
            return {}
        self._paths.make()
        stop = threading.Event()
        deadline = time.monotonic() + timeout_s
        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            try:
                asked = {name: pool.submit(self._reach, name, deadline, stop) for name in names}
                return {name: found for name, one in asked.items() if (found := one.result())}
            finally:
                stop.set()

    def _reach(self, name: str, deadline: float, stop: threading.Event) -> str:
        """Our address as the machine sees it; "" when it does not let us in until the deadline."""
        host = SshHost(
            Target(name, USER),
            self._paths.ssh,
            self._environ,
            identity=self._paths.key,
            settings=self._paths.ssh_config,
        )
        told = time.monotonic()
        try:
            while True:
                try:
                    seen = host.run(Command(("sh", "-c", 'echo "$SSH_CONNECTION"')), COMMAND_S).stdout
                    return seen.split()[0] if seen.strip() else "unknown"
                except CommandError as error:
                    if "IDENTIFICATION HAS CHANGED" in error.stderr:
                        raise
                    now = time.monotonic()
                    if now > deadline:
                        return ""
                    if now - told > TOLD_S:
                        self._say(f"{name}: does not let us in yet; waiting")
                        told = now
                if stop.wait(POLL_S):
                    return ""
        finally:
            host.close()

    def deploy(self, names: Sequence[str]) -> Deployed:
        wishes = replace(
            self._wishes,
            hosts=",".join(f"{USER}@{name}" for name in names),
            ssh_key=str(self._paths.key),
            ssh_config=str(self._paths.ssh_config),
            private_interface=PRIVATE_INTERFACE,
            keeper_token=config.keeper_token(self._environ),
        )
        fleet = FleetSettings.load(self._paths.fleet)
        keeper = keeping.variables(self._environ, self._stack, fleet) if fleet else {}
        self._touch()
        done = deploy.up(
            {**self._environ, **keeper}, self._root, self._stack, wishes, self._say, kind="hosts"
        )
        if done is None:
            raise StackError("a deployment that was no dry run ended as one")
        self._touch()
        return done

    def _touch(self) -> None:
        """A deployment is something to do: a stack that is idle does not end in the midst of it."""
        if self.working:
            with contextlib.suppress(QueueError), operator.queue(self._environ, self._stack) as queue:
                ending.touch(queue)

    def announce(self, names: Sequence[str]) -> None:
        with operator.queue(self._environ, self._stack) as queue:
            for name in names:
                nodes.set_draining(queue, name, True)

    def drain(self, name: str, timeout_s: float | None) -> None:
        try:
            leaving.drain(self._environ, self._stack, name, self._say, timeout_s=timeout_s)
        except leaving.NoSuchNode:
            return  # a run that was cut off had come so far
        except leaving.NodeDown:
            self.lost(name)

    def lost(self, name: str) -> None:
        deadline = time.monotonic() + NOTICED_S
        while True:
            try:
                leaving.drain(self._environ, self._stack, name, self._say, lost=True)
            except leaving.NoSuchNode:
                return
            except leaving.NodeAnswers:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
            else:
                return

    def busy(self) -> str:
        try:
            where = config.read_endpoints(self._paths.endpoints)
            queue = look(where).queue if where else None
        except CloudburstError:
            return ""
        if queue is None or not queue.waiting + queue.running:
            return ""
        return f"{queue.running:,} jobs run and {queue.waiting:,} wait"
