"""Both sides stay for the whole session of tests: starting them takes longer than most tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.sides import OurSide, Side, StockSide


@pytest.fixture(scope="session", params=[StockSide, OurSide], ids=["stock", "ours"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    side = request.param(tmp_path_factory.mktemp(request.param.name))
    try:
        side.start()
        yield side
    finally:
        side.stop()


@pytest.fixture
def side(running: Side) -> Iterator[Side]:
    running.ready()
    yield running
    running.check()
