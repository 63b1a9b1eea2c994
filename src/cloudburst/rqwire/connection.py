"""Connections to Redis, with errors that say what to do."""

from __future__ import annotations

import contextlib
import socket
import ssl
import urllib.parse
from collections.abc import Iterator
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry

from cloudburst import trust
from cloudburst.errors import ConfigError, QueueError

Redis = redis.Redis
"""Always with bytes in replies: job data is not text."""

Text = bytes | bytearray | memoryview | str | int | float
"""What redis-py takes as a key, field or value."""


class Distrusted(QueueError):
    """What answers is not believed to be the stack's Redis. Asking again is no use."""


class _PinnedConnection(redis.SSLConnection):
    """A TLS connection that trusts as ``context`` says: redis-py's own trusts all of the machine's, too."""

    def __init__(self, *, context: ssl.SSLContext, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._context = context

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        return self._context.wrap_socket(sock, server_hostname=self.host)


QUIET_S = 20
"""A connection on which the other side has acknowledged nothing for so long is broken, says the kernel then.
It says so where we only listen, too."""

_KEEPALIVE = {
    "TCP_KEEPIDLE": QUIET_S // 2,
    "TCP_KEEPINTVL": 3,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": QUIET_S * 1000,
}


def connect(url: str, *, ca_file: str = "", timeout_s: float = 10.0) -> Redis:
    """Connect to the Redis at ``url`` and check that it answers, lets us in, and is at least 6.2.

    With ``ca_file``, the authority in it is the only one whose certificates are believed (``rediss://``).
    Raises QueueError, and ConfigError. ``timeout_s`` bounds every later call on the connection too.
    """
    tls: dict[str, Any] = {}
    if _scheme(url) == "rediss":
        tls = {"connection_class": _PinnedConnection, "context": trust.context(ca_file)}
    client = redis.Redis.from_url(
        url,
        **tls,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        socket_keepalive_options={
            getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)
        },
        health_check_interval=30,
        # redis-py would repeat calls for seconds; who may wait for what is known to our callers.
        retry=Retry(NoBackoff(), 0),
    )
    with explained(url, ca_file):
        info = client.info("server")
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
        raise QueueError(f"Redis at {shown(url)} is version {version}; CloudBurst needs at least 6.2")
    return client


def shown(url: str) -> str:
    """The host and port of a Redis URL, without its password."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}"


def _user(url: str) -> str:
    return f"the user {urllib.parse.urlsplit(url).username or 'default'!r}"


T = TypeVar("T")


def or_nothing(reply: Any, kind: type[T]) -> T:
    """A reply of a pipeline that raises nothing; an empty ``kind`` where the key is of another type."""
    if isinstance(reply, Exception) and "WRONGTYPE" not in str(reply):
        raise reply
    return reply if isinstance(reply, kind) else kind()


def found(pipe: Pipeline, kind: type[T]) -> list[T]:
    """The replies of a pipeline, as ``or_nothing`` has them. Raises what redis-py raises."""
    return [or_nothing(reply, kind) for reply in pipe.execute(raise_on_error=False)]


_OF_THE_SERVER = ("MISCONF", "READONLY", "NOREPLICAS", "LOADING", "BUSY", "NOPERM", "executing the script")


def refuses_arguments(error: redis.ResponseError) -> bool:
    """Whether what was sent is to blame, and not the server's state or the rights of its user."""
    return not out_of_memory(error) and not any(word in str(error) for word in _OF_THE_SERVER)


def out_of_memory(error: redis.RedisError) -> bool:
    """Whether Redis refuses because its memory is full; 6.2 says so somewhere in what a script tells."""
    return "command not allowed when used memory" in str(error)


def _full(error: redis.RedisError) -> str:
    """What is full, and what to do; "" when nothing is."""
    if out_of_memory(error):
        return (
            "has no memory left and accepts no new jobs; those that it has run on, and free some when they "
            "end: try again then, or give it more (CLOUDBURST_QUEUE_MEMORY, when deploying)"
        )
    if "MISCONF" in str(error):
        return (
            "cannot write to its disk, and accepts nothing until it can; nothing that it has accepted is "
            "lost: make room on the master's disk, then all goes on"
        )
    return ""


def _scheme(url: str) -> str:
    """ConfigError for what is no URL of a Redis."""
    try:
        parts = urllib.parse.urlsplit(url)
        parts.port  # noqa: B018  raises for one that there is not
        (parts.hostname or "").encode("idna")
    except (ValueError, UnicodeError) as error:
        raise ConfigError(f"{url.rpartition('@')[2]!r:.100}: not the address of a Redis ({error})") from error
    if parts.scheme not in {"redis", "rediss", "unix"} or not parts.netloc + parts.path:
        raise ConfigError(
            f"{url.rpartition('@')[2]!r:.100}: not the address of a Redis: it begins with redis:// or rediss://"
        )
    return parts.scheme


@contextlib.contextmanager
def explained(url: str, ca_file: str = "") -> Iterator[None]:
    """Turn redis-py's exceptions into QueueError, naming the server."""
    try:
        yield
    except redis.AuthenticationError as error:
        raise QueueError(
            f"Redis at {shown(url)} refuses the user name or password ({error}): check REDIS_USERNAME and "
            "REDIS_PASSWORD, or endpoints.json"
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise QueueError(
            f"Redis at {shown(url)} does not let {_user(url)} do that ({error}): it takes a user with more "
            "rights, see docs/operating.md"
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        if wrong := trust.distrust(error, ca_file):
            raise Distrusted(f"Redis at {shown(url)}: {wrong}") from error
        raise QueueError(
            f"Redis at {shown(url)} does not answer ({error}): is the stack running? "
            "./buildstack.sh --local --status shows this machine's, --name NAME --status another"
        ) from error
    except redis.ResponseError as error:
        if full := _full(error):
            raise QueueError(f"Redis at {shown(url)} {full} ({error})") from error
        raise QueueError(f"Redis at {shown(url)} refused: {error}") from error
