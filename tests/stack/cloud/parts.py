"""A stack at the fake provider, without machines: what would be done on them is written down."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cloudburst import config
from cloudburst.model import Endpoints
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.paths import read_text, write_private
from cloudburst.stack.swarm.deploy import Deployed
from cloudburst.stack.swarm.settings import Settings

HERE = "198.51.100.7"
"""Our address, as machines see it."""


class Swarm:
    """Keeps what a deployment keeps, and in ``steps.log`` beside the stack what it was asked to do.

    ``kill_at``: this process is killed, as by SIGKILL, at so many steps from now.
    """

    def __init__(self, environ: Mapping[str, str], stack: str, *, kill_at: int = 0) -> None:
        self._paths = CloudPaths(config.stack_dir(environ, stack))
        self._stack = stack
        self._kill_at = kill_at
        self.caller = HERE
        self.silent: set[str] = set()
        """Machines that let nobody in."""
        self.log = self._paths.root.parent / f"{stack}.steps.log"

    @property
    def steps(self) -> list[str]:
        """What it was asked to do so far, by all processes."""
        return read_text(self.log).splitlines()

    @property
    def members(self) -> tuple[str, ...]:
        settings = Settings.load(self._paths.settings)
        return tuple(target.host for target in settings.targets) if settings else ()

    @property
    def working(self) -> bool:
        return self._paths.endpoints.exists()

    def reach(self, names: Sequence[str], timeout_s: float) -> dict[str, str]:
        self._step("reach", names)
        config_of_ssh = self._paths.ssh_config.read_text()
        assert all(f"Host {name}\n" in config_of_ssh for name in names)
        return {name: self.caller for name in names if name not in self.silent}

    def deploy(self, names: Sequence[str]) -> Deployed:
        changed = self.members != tuple(names) or not self.working
        self._paths.make()
        settings = Settings.load(self._paths.settings) or Settings("hosts")
        replace(settings, hosts=tuple(f"root@{name}" for name in names)).save(self._paths.settings)
        self._step("deploy", names)
        endpoints = Endpoints(
            self._stack, "rediss://client:x@192.0.2.1:6380/0", "https://192.0.2.1", "", "", ""
        )
        write_private(self._paths.endpoints, endpoints.to_json())
        return Deployed(endpoints, changed, 0.0, 2 * len(names))

    def announce(self, names: Sequence[str]) -> None:
        self._step("announce", names)

    def drain(self, name: str, timeout_s: float | None) -> None:
        assert self.working, "only a working stack can be asked what runs on a node"
        self._step("drain", [name])
        self._forget(name)

    def lost(self, name: str) -> None:
        assert self.working
        self._step("lost", [name])
        self._forget(name)

    def busy(self) -> str:
        return "1 jobs run and 5 wait" if self.working else ""

    def _forget(self, name: str) -> None:
        settings = Settings.load(self._paths.settings)
        assert settings is not None
        hosts = tuple(host for host in settings.hosts if host != f"root@{name}")
        replace(settings, hosts=hosts).save(self._paths.settings)

    def _step(self, what: str, names: Sequence[str]) -> None:
        with self.log.open("a") as file:
            file.write(" ".join([what, *names]) + "\n")
        if self._kill_at:
            self._kill_at -= 1
            if not self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def home(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a user whose stacks are kept there."""
    return {**environ, "CLOUDBURST_HOME": str(directory), "PATH": os.environ["PATH"]}
