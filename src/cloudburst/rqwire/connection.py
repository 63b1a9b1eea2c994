"""Connections to Redis, with errors that say what to do."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Iterator

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cloudburst.errors import QueueError

Redis = redis.Redis
"""Always with bytes in replies: job data is not text."""

Text = bytes | bytearray | memoryview | str | int | float
"""What redis-py takes as a key, field or value."""


def connect(url: str, *, timeout_s: float = 10.0) -> Redis:
    """Connect to the Redis at ``url`` and check that it answers, lets us in, and is at least 6.2.

    Raises QueueError otherwise. ``timeout_s`` bounds every later call on the connection too.
    """
    client = redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=30,
        # redis-py would repeat calls for seconds; who may wait for what is known to our callers.
        retry=Retry(NoBackoff(), 0),
    )
    with explained(url):
        info = client.info("server")
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
        raise QueueError(f"Redis at {shown(url)} is version {version}; CloudBurst needs at least 6.2")
    return client


def shown(url: str) -> str:
    """The host and port of a Redis URL, without its password."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}"


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn redis-py's exceptions into QueueError, naming the server."""
    try:
        yield
    except redis.AuthenticationError as error:
        raise QueueError(
            f"Redis at {shown(url)} refuses the password ({error}): check REDIS_PASSWORD or endpoints.json"
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise QueueError(
            f"Redis at {shown(url)} does not answer ({error}): is the stack running? "
            "./buildstack.sh --local --status shows it, ./buildstack.sh --local starts it"
        ) from error
    except redis.ResponseError as error:
        raise QueueError(f"Redis at {shown(url)} refused: {error}") from error
