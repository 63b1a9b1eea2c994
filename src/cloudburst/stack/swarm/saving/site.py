"""The stack that is saved or restored: its master, its services, and a way into its queue."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cloudburst.commands import services_of_swarm as commands
from cloudburst.commands import volumes
from cloudburst.errors import StackError
from cloudburst.hosts.host import Host
from cloudburst.stack.refusals import explained
from cloudburst.stack.swarm import deploy, operator

COMMAND_S = 60.0
POLL_S = 0.5
STOP_S = 120.0
"""A service gets 60 s of grace at most; see ``stack/docker-compose.yml``."""
START_S = 300.0
"""Loading a large append-only file takes minutes."""

WITH_VOLUMES = ("influx", "grafana")
"""Services whose whole volume is saved while they stand still."""


@dataclass(frozen=True)
class Service:
    """What the swarm is to run."""

    image: str
    replicas: int


@dataclass(frozen=True)
class Site:
    """One stack. Raises CommandError, and StackError when a service does not come or go."""

    stack: str
    master: Host
    queue_url: str = field(repr=False)
    """For the user ``operator``."""
    operator_password: str = field(repr=False)
    ca_file: str
    secrets: Path
    """The folder of the stack's secrets on this machine."""
    say: Callable[[str], None]

    def service(self, name: str) -> str:
        return f"{self.stack}_{name}"

    def volume(self, name: str) -> str:
        return f"{self.stack}_{name}"

    def services(self, *names: str) -> dict[str, Service]:
        """What the swarm is to run of these services."""
        asked = commands.inspect([self.service(name) for name in names])
        found = {}
        for line in self.master.run(asked, COMMAND_S).stdout.splitlines():
            name, image, *replicas = line.split()
            found[name.removeprefix(f"{self.stack}_")] = Service(image, int(replicas[0]) if replicas else 1)
        return found

    def has_volume(self, name: str) -> bool:
        listed = self.master.run(volumes.exists(self.volume(name)), COMMAND_S).stdout
        return self.volume(name) in listed.split()

    def container(self, name: str) -> str:
        """Id of the service's container on the master; StackError when there is none."""
        ids = self._containers(name)
        if not ids:
            raise StackError(f"service {name} of stack {self.stack} does not run on {self.master.name}")
        return ids[0]

    def stop(self, names: Collection[str]) -> None:
        """Scale these services to nothing, and wait until they have ended."""
        self._scale(dict.fromkeys(names, 0))
        for name in names:
            self._wait(f"service {name} has not stopped", STOP_S, partial(self._gone, name))

    def start(self, replicas: Mapping[str, int], soon: Collection[str] = ()) -> None:
        """Scale services, and wait until each runs and is healthy, but for those of ``soon``."""
        self._scale(replicas)
        for name, count in replicas.items():
            if name in soon:
                continue
            why = f"docker service ps --no-trunc {self.service(name)} says why"
            self._wait(
                f"service {name} does not run ({why})",
                START_S,
                partial(self._runs, name, count),
            )

    def _scale(self, replicas: Mapping[str, int]) -> None:
        scaled = commands.scale({self.service(name): count for name, count in replicas.items()})
        self.master.run(scaled, COMMAND_S)

    def _wait(self, otherwise: str, timeout_s: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise StackError(f"{self.master.name}: {otherwise} within {timeout_s:g} s")
            time.sleep(POLL_S)

    def _containers(self, name: str) -> list[str]:
        return self.master.run(commands.containers(self.service(name)), COMMAND_S).stdout.split()

    def _gone(self, name: str) -> bool:
        return not self._containers(name)

    def _runs(self, name: str, count: int) -> bool:
        lines = self.master.run(commands.running(self.stack), COMMAND_S).stdout.splitlines()
        found = dict(line.split(maxsplit=1) for line in lines)
        return found.get(self.service(name), "").split(" ")[0] == f"{count}/{count}"


@contextlib.contextmanager
def opened(environ: Mapping[str, str], stack: str, say: Callable[[str], None]) -> Iterator[Site]:
    """A stack that was deployed from here. Raises ConfigError when there is none of that name."""
    paths, settings = deploy.known(environ, stack)
    with explained(), deploy.reached(environ, paths, settings, say) as (_runner, hosts):
        yield Site(
            stack=stack,
            master=hosts[0],
            queue_url=operator.url(environ, stack),
            operator_password=operator.password(paths),
            ca_file=str(paths.ca),
            secrets=paths.secrets,
            say=say,
        )
