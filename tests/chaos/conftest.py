"""One world for all fault tests; each test starts its own workers in it and leaves none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.world import World, world_in


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def world(services: World) -> Iterator[World]:
    yield services
    services.clear()
