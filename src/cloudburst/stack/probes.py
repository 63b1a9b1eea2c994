"""Whether a service does its work, asked as its users would ask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import redis
import requests

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


def redis_server(url: str, pid: int) -> bool:
    """Whether the Redis at ``url`` lets us in, has loaded its data, and is that very process."""
    with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as client:
        try:
            info = client.info()
        except redis.RedisError:
            return False
    return int(info["process_id"]) == pid and not int(info["loading"])


def worker(url: str, pid: int) -> bool:
    """Whether that process has registered as a worker in the Redis at ``url``."""
    with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as client:
        try:
            return any(status.pid == pid for status in workers(client))
        except redis.RedisError:
            return False
