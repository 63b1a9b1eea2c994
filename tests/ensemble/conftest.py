"""One file store for all tests of the client; Redis is new for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudburst import Stack
from tests.conftest import RedisServer
from tests.ensemble.parts import endpoints, file_store, payload


@pytest.fixture(scope="session")
def filestore_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with file_store(tmp_path_factory.mktemp("files")) as url:
        yield url


@pytest.fixture
def stack(redis_server: RedisServer, filestore_url: str) -> Stack:
    return Stack(endpoints(redis_server, filestore_url))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return payload(tmp_path / "model")
