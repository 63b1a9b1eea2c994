"""One queue and one file store for all tests of the command line; the queue is emptied before each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.conftest import RedisServer
from tests.ensemble.parts import endpoints, file_store, payload


@pytest.fixture(scope="session")
def filestore_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with file_store(tmp_path_factory.mktemp("files")) as url:
        yield url


@pytest.fixture(scope="session")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("queue"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def shell(tmp_path: Path, queue: RedisServer, filestore_url: str) -> Shell:
    client = queue.client()
    client.flushall()
    payload(tmp_path / "model")
    return Shell(tmp_path, endpoints(queue, filestore_url), client)
