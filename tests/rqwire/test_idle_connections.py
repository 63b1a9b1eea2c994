"""Connections that nobody uses: they end by themselves, and our own clients do not mind."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
from collections.abc import Iterator

import pytest
import redis

from cloudburst.rqwire.connection import connect
from tests.conftest import RedisServer
from tests.wait import wait_until

FLOOD = 10_100


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FLOOD + 1000
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"the system allows {hard} open files, and this needs {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def clients(server: RedisServer) -> int:
    return int(server.client().info("clients")["connected_clients"])


def test_a_flood_of_idle_connections_leaves_room_and_ends_by_itself(
    many_files: None, redis_server: RedisServer
) -> None:
    with contextlib.ExitStack() as flood:
        for _ in range(FLOOD):
            flood.enter_context(socket.create_connection(("127.0.0.1", redis_server.port), timeout=30))
        wait_until(lambda: clients(redis_server) > FLOOD, 60, "all of them to be there")
        # Workers and operators still get in.
        assert connect(redis_server.url).ping()
        # Within about a minute; the test does not wait for that.
        assert 0 < int(redis_server.client().config_get("timeout")["timeout"]) <= 60
        redis_server.client().config_set("timeout", 1)
        wait_until(lambda: clients(redis_server) < 10, 60, "them to be closed")


def test_a_client_whose_idle_connection_was_closed_goes_on_with_another(redis_server: RedisServer) -> None:
    client = connect(redis_server.url)
    redis_server.client().config_set("timeout", 1)
    for number in range(3):
        assert client.incr("count") == number + 1
        wait_until(lambda: clients(redis_server) == 1, 20, "the idle connection to be closed")
    with client.pipeline() as pipe:
        assert pipe.incr("count").incr("count").execute() == [4, 5]


def test_whoever_waits_or_listens_is_not_idle(redis_server: RedisServer) -> None:
    redis_server.client().config_set("timeout", 1)
    taken: list[object] = []
    waiting = threading.Thread(target=lambda: taken.append(connect(redis_server.url).blpop(["queue"], 15)))
    waiting.start()
    listening = connect(redis_server.url).pubsub(ignore_subscribe_messages=True)
    listening.subscribe("orders")
    idle = socket.create_connection(("127.0.0.1", redis_server.port), timeout=30)

    assert idle.recv(1) == b""  # closed, as is whoever does nothing for longer than the limit
    sender = redis.Redis(port=redis_server.port)
    sender.publish("orders", "stop")
    sender.rpush("queue", "job")
    waiting.join(20)

    assert taken == [(b"queue", b"job")]
    told: list[object] = []
    wait_until(lambda: told.append(listening.get_message(timeout=1)) or told[-1] is not None, 20, "a message")
    assert told[-1]["data"] == b"stop"  # type: ignore[index]
    listening.close()
    idle.close()
