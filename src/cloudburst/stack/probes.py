"""Whether a service does its work, asked as its users would ask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import redis
import requests
from redis.backoff import NoBackoff
from redis.retry import Retry

from cloudburst.model import Endpoints
from cloudburst.rqwire.workers import workers

TIMEOUT_S = 2.0

Ready = Callable[[int], bool]
"""Whether the process with that pid does its work; False, never an exception, while it does not."""


def of(where: Endpoints) -> dict[str, Ready]:
    """How to ask each service of the stack with these endpoints."""
    return {
        "queue": partial(redis_server, where.redis_url),
        "filestore": lambda _pid: http(f"{where.filestore_url}/health"),
        "influx": lambda _pid: http(f"{where.influx_url}/health"),
        "queue-dash": lambda _pid: http(where.queue_dash_url),
        "worker": partial(worker, where.redis_url),
    }


def http(url: str) -> bool:
    """Whether ``url`` answers 200."""
    try:
        # Proxies are for the outside; this machine is reached without.
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=TIMEOUT_S).status_code == 200
    except requests.RequestException:
        return False


def client(url: str) -> redis.Redis:
    """A client that gives up at once: redis-py would try for seconds, with growing pauses."""
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), retries=0),
    )


def redis_server(url: str, pid: int) -> bool:
    """Whether the Redis at ``url`` lets us in, has loaded its data, and is that very process."""
    with client(url) as connected:
        try:
            info = connected.info()
        except redis.RedisError:
            return False
    return bool(info.get("process_id") == pid and not info.get("loading"))


def worker(url: str, pid: int) -> bool:
    """Whether that process has registered as a worker in the Redis at ``url``."""
    with client(url) as connected:
        try:
            return any(status.pid == pid for status in workers(connected))
        except redis.RedisError:
            return False
