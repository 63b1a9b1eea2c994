"""What tests of the scripts begin with: a real Redis, and what a worker and a client use of it."""

from __future__ import annotations

import pytest
import redis

from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Leases
from tests.conftest import RedisServer


@pytest.fixture
def client(redis_server: RedisServer) -> redis.Redis:
    return redis_server.client()


@pytest.fixture
def worker(client: redis.Redis) -> Leases:
    return Leases(client, queue="default", worker="w1", node="node-1", lease_s=30)


@pytest.fixture
def ensembles(client: redis.Redis) -> Ensembles:
    return Ensembles(client)
