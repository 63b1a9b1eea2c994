"""The queue: users, TLS, and a file whose end a power cut has torn off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.images.conftest import PASSWORDS, Secrets, start_queue
from tests.images.engine import SUBNET, Engine
from tests.wait import wait_until


def connect(user: str, password: str, *, address: int = 11, **options: object) -> redis.Redis:
    return redis.Redis(f"{SUBNET}.{address}", username=user, password=password, **options)  # type: ignore[arg-type]


def test_every_user_may_do_what_its_role_needs(stack: Engine) -> None:
    connect("worker", PASSWORDS["worker"]).hset("rq:job:1", "status", "queued")
    connect("operator", PASSWORDS["operator"]).config_get("maxmemory")

    for user in ("worker", "client", "dash", "observer", "keeper"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            connect(user, PASSWORDS[user]).config_get("*")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(f"{SUBNET}.11").ping()
    with pytest.raises(redis.AuthenticationError):
        connect("worker", "wrong").ping()


def test_the_user_of_the_health_check_may_only_ping(stack: Engine) -> None:
    health = connect("health", "none")

    assert health.ping()
    for command in (["GET", "a"], ["INFO"], ["KEYS", "*"], ["SELECT", "1"], ["ACL", "LIST"]):
        with pytest.raises(redis.exceptions.NoPermissionError):
            health.execute_command(*command)


def test_the_outer_port_speaks_tls_with_the_certificate_of_the_secret(
    stack: Engine, secrets: Secrets
) -> None:
    ca_file = str(secrets.authority.certificate)

    trusting = connect("client", PASSWORDS["client"], port=6380, ssl=True, ssl_ca_certs=ca_file)
    assert trusting.ping()

    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        connect("client", PASSWORDS["client"], port=6380, ssl=True).ping()
    with pytest.raises(redis.RedisError):
        connect("client", PASSWORDS["client"], port=6380).ping()


def test_it_keeps_everything(stack: Engine) -> None:
    operator = connect("operator", PASSWORDS["operator"])

    settings = {name: operator.config_get(name)[name] for name in ("appendonly", "maxmemory-policy", "save")}

    assert settings == {"appendonly": "yes", "maxmemory-policy": "noeviction", "save": ""}
    assert stack.users("queue") == {10001}


@pytest.fixture
def torn(engine: Engine, secrets: Secrets) -> Iterator[str]:
    """A queue of its own, that was stopped in the middle of writing a script down."""
    name = "queue-torn"
    options = ["--volume", "torn-queue:/var/lib/redis", "--env", "CLOUDBURST_QUEUE_MEMORY=64mb"]
    start_queue(engine, secrets, name, *options, address=21)
    engine.wait_healthy(name)
    connect("operator", PASSWORDS["operator"], address=21).set("whole", "1")
    engine.docker("stop", name)
    half = r"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$1\r\n1\r\n*3\r\n$3\r\nSET\r\n$2\r\nno"
    mount = ["--volume", "torn-queue:/var/lib/redis", "--entrypoint=bash", "cloudburst-tests/queue"]
    append = f"printf '{half}' >> $(ls /var/lib/redis/appendonlydir/*.incr.aof)"
    engine.docker("run", "--rm", "--network=none", *mount, "-c", append)
    yield name
    engine.docker("rm", "--force", name)
    engine.docker("volume", "rm", "torn-queue")


def test_half_of_a_script_at_the_end_of_the_file_is_taken_off(engine: Engine, torn: str) -> None:
    engine.docker("start", torn)
    engine.wait_healthy(torn)

    operator = connect("operator", PASSWORDS["operator"], address=21)
    assert operator.get("whole") == b"1"
    assert operator.get("half") is None
    assert "unfinished script, which is taken off" in engine.logs(torn)
    # and it is off the file, too: the next start finds nothing
    engine.docker("restart", torn)
    wait_until(lambda: engine.health(torn) == "healthy", 60, "the queue")
    assert engine.logs(torn).count("taken off") == 1


def test_its_memory_can_be_limited(engine: Engine, torn: str) -> None:
    engine.docker("start", torn)
    engine.wait_healthy(torn)

    operator = connect("operator", PASSWORDS["operator"], address=21)

    assert operator.config_get("maxmemory") == {"maxmemory": str(64 << 20)}
