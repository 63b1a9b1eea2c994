"""A fake DigitalOcean, and the provider at it; both live by a clock that only waiting moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cloudburst.providers.digitalocean.fleet import Fleet
from cloudburst.providers.digitalocean.provider import DigitalOcean
from tests.digitalocean.account import Times
from tests.digitalocean.fake import FakeDigitalOcean

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAWXzuHiLcnrVlqUVTmUIRcNlUCiYjEHmPNCx4ZRIQ5d cloudburst"
ANOTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBr8kD2vXyTqvhCk1x8nq8zXbPzCq0mJ0Qy8m3oB3f1a other"


@dataclass
class Clock:
    now: float = 1_760_000_000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Place:
    """The provider at the fake, and what it said."""

    fake: FakeDigitalOcean
    clock: Clock
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.provider = self.with_token(self.fake.token)

    def with_token(self, token: str) -> DigitalOcean:
        return DigitalOcean(token, self.fake.end_point, sleep=self.clock.sleep, clock=self.clock)

    def up(self, fleet: Fleet, key: str = KEY) -> list[str]:
        """Plan and make; the names of the machines. Fails if there were problems."""
        nodes, problems = self.provider.make(self.provider.plan(fleet), key, self.said.append)
        assert problems == []
        return [node.name for node in nodes]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(clock: Clock) -> Iterator[Place]:
    """Everything happens at once."""
    with FakeDigitalOcean(clock=clock) as fake:
        yield Place(fake, clock)
        fake.check()


@pytest.fixture
def slow(clock: Clock) -> Iterator[Place]:
    """Machines, and their going, take as long as real ones."""
    with FakeDigitalOcean(Times(boot_s=45, address_s=52, delete_s=12, member_s=8), clock) as fake:
        yield Place(fake, clock)
        fake.check()
