"""The secrets of one stack: random, made once, kept in files that only this user can read."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cloudburst.stack import builds
from cloudburst.stack.paths import Paths, read_text, write_private
from cloudburst.stack.settings import Settings, Wishes

REDIS_PASSWORD = "redis-password"  # noqa: S105 - the name of a file
FILESTORE_TOKEN = "filestore-token"  # noqa: S105
INFLUX_TOKEN = "influx-token"  # noqa: S105


@dataclass(frozen=True, repr=False)
class Secrets:
    """Never shown: there is no ``repr``."""

    redis_password: str
    """"" when Redis takes everybody."""
    filestore_token: str
    influx_token: str
    builds: Mapping[str, str] = field(default_factory=dict)
    """Variables about building environments."""


def ensure(paths: Paths, settings: Settings, wishes: Wishes) -> Secrets:
    """The stack's secrets: those that the user gave, else those that there are, else new ones."""
    return Secrets(
        redis_password=_one(paths, REDIS_PASSWORD, None) if settings.auth else "",
        filestore_token=_one(paths, FILESTORE_TOKEN, wishes.token),
        influx_token=_one(paths, influx_token_file(settings), wishes.influx_token, default="")
        if settings.influx
        else _one(paths, influx_token_file(settings), wishes.token),
        builds=builds.remember(paths, wishes.builds),
    )


def influx_token_file(settings: Settings) -> str:
    """Name of the file with the token for points.

    One for somebody else's InfluxDB must not become ours, nor ours be sent there.
    """
    return f"external-{INFLUX_TOKEN}" if settings.influx else INFLUX_TOKEN


def _one(paths: Paths, name: str, wish: str | None, default: str | None = None) -> str:
    path = paths.secret(name)
    there = read_text(path).strip()
    value = wish or there or (default if default is not None else secrets.token_urlsafe(24))
    if value != there or not path.exists():
        write_private(path, value)
    return value
