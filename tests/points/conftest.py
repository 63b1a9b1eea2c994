"""Real parts for tests of points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.influx import Influx, running
from tests.points.endpoint import Endpoint


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    """An endpoint of one's own, not started yet."""
    endpoint = Endpoint(tmp_path)
    yield endpoint
    endpoint.kill()


@pytest.fixture(scope="module")
def running_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An endpoint that the tests of a module share, each with a measurement of its own."""
    endpoint = Endpoint(tmp_path_factory.mktemp("endpoint"))
    endpoint.start()
    yield endpoint
    endpoint.kill()


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[Influx]:
    """An empty database."""
    with running(tmp_path) as database:
        yield database
