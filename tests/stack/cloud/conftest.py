"""A fake DigitalOcean, and a user of it; both live by a clock that waiting moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.digitalocean.fake import FakeDigitalOcean
from tests.stack.cloud.user import Clock, User


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake(clock: Clock) -> Iterator[FakeDigitalOcean]:
    with FakeDigitalOcean(clock=clock) as fake:
        yield fake
        fake.check()


@pytest.fixture
def user(tmp_path: Path, fake: FakeDigitalOcean, clock: Clock) -> User:
    return User(tmp_path, fake, clock)
