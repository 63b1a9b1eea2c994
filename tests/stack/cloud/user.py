"""A user of one stack at the fake provider, and time that passes when somebody sleeps."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from cloudburst.providers.digitalocean.provider import DigitalOcean
from cloudburst.stack.cloud import deploy, leaving, removal
from cloudburst.stack.cloud.settings import Wishes
from cloudburst.stack.cloud.status import FleetStatus, status
from cloudburst.stack.swarm.deploy import Deployed
from tests.digitalocean.fake import FakeDigitalOcean
from tests.stack.cloud.parts import Swarm, home

STACK = "floods"


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self._slept = 0.0

    def __call__(self) -> float:
        return time.time() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds


class User:
    """Gives commands for one stack, and reads what they say."""

    def __init__(self, directory: Path, fake: FakeDigitalOcean, clock: Clock) -> None:
        self.fake = fake
        self.clock = clock
        self.environ = home(directory, fake.environ)
        self.directory = directory / STACK
        self.swarm = Swarm(self.environ, STACK)
        self.provider = DigitalOcean(fake.token, fake.end_point, sleep=clock.sleep, clock=clock)
        self.said: list[str] = []

    def up(
        self, nodes: int | None = None, ask: Any = None, dry: bool = False, **wishes: Any
    ) -> Deployed | None:
        return deploy.up(
            self.environ,
            Path("/nowhere"),
            STACK,
            Wishes(nodes=nodes, **wishes),
            self.said.append,
            ask=ask,
            dry=dry,
            provider=self.provider,
            swarm=self.swarm,
        )

    def down(self, ask: Any = None) -> removal.Gone:
        return removal.down(
            self.environ, STACK, self.said.append, ask=ask, provider=self.provider, swarm=self.swarm
        )

    def drain(self, *names: str, lost: bool = False) -> None:
        leaving.leave(
            self.environ, STACK, names, self.said.append, lost=lost, provider=self.provider, swarm=self.swarm
        )

    def status(self) -> FleetStatus:
        return status(self.environ, STACK, self.clock(), self.provider)

    def wanted(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "fleet.json").read_text())
        return found

    @property
    def text(self) -> str:
        return "\n".join(self.said)
