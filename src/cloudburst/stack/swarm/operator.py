"""The queue of a stack on a swarm, for its operator, who may do everything there."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Iterator, Mapping

from cloudburst import config
from cloudburst.rqwire import connection
from cloudburst.rqwire.connection import Redis
from cloudburst.stack.paths import read_text
from cloudburst.stack.swarm.paths import SwarmPaths

USER = "operator"


def password(paths: SwarmPaths) -> str:
    return read_text(paths.secret(f"redis-{USER}")).strip()


def url(environ: Mapping[str, str], stack: str) -> str:
    """Where the queue is, with the operator's password. Raises ConfigError for an unknown stack."""
    paths = SwarmPaths(config.stack_dir(environ, stack))
    parts = urllib.parse.urlsplit(config.endpoints(environ, stack).redis_url)
    login = f"{USER}:{urllib.parse.quote(password(paths), safe='')}"
    return parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}").geturl()


@contextlib.contextmanager
def queue(environ: Mapping[str, str], stack: str) -> Iterator[Redis]:
    """A connection, as long as it is needed. Raises QueueError."""
    where, ca_file = url(environ, stack), config.endpoints(environ, stack).ca_file
    with connection.connect(where, ca_file=ca_file) as client, connection.explained(where, ca_file):
        yield client
