"""The secrets of one stack: random, made once, kept in files that only this user can read.

Removing a file changes the secret at the next deployment: services that know it are restarted with another.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloudburst import config
from cloudburst.errors import ConfigError
from cloudburst.rqwire import acl
from cloudburst.stack.paths import read_text, write_private
from cloudburst.stack.swarm.certificates import Certificates, Pair
from cloudburst.stack.swarm.paths import SwarmPaths

REDIS_ROLES: tuple[acl.Role, ...] = ("client", "worker", "dash", "observer", "keeper", "operator")
DASH_USER = "cloudburst"
KEEPER_TOKEN = "keeper-token"  # noqa: S105 - the name of a file
_BUILDS = "builds.json"
_SALT = "salt"


@dataclass(frozen=True, repr=False)
class Secrets:
    """Never shown: there is no ``repr``."""

    redis: Mapping[str, str]
    """Passwords of Redis' users."""
    filestore_token: str
    filestore_read_token: str
    influx_password: str
    influx_token: str
    """The operator's."""
    influx_write_token: str
    influx_read_token: str
    grafana_password: str
    dash_password: str
    keeper_token: str
    """The provider's, for the service that ends the stack; "" when none was given."""
    builds: Mapping[str, str]
    """Variables about building environments."""
    salt: str
    """So that names, which hold a hash of contents, tell nothing about what is easily guessed."""


def ensure(paths: SwarmPaths, builds: Mapping[str, str], keeper_token: str | None = None) -> Secrets:
    """The stack's secrets: those that there are, else new ones. The others are what was said this time."""

    def one(name: str) -> str:
        path = paths.secret(name)
        there = read_text(path).strip()
        value = there or secrets.token_urlsafe(24)
        if value != there:
            write_private(path, value)
        return value

    return Secrets(
        redis={role: one(f"redis-{role}") for role in REDIS_ROLES},
        filestore_token=one("filestore-token"),
        filestore_read_token=one("filestore-read-token"),
        influx_password=one("influx-password"),
        influx_token=one("influx-token"),
        influx_write_token=one("influx-write-token"),
        influx_read_token=one("influx-read-token"),
        grafana_password=one("grafana-password"),
        dash_password=one("queue-dash-password"),
        keeper_token=_given(paths.secret(KEEPER_TOKEN), keeper_token),
        builds=_builds(paths, builds),
        salt=one(_SALT),
    )


def contents(secret: Secrets, certificates: Certificates, gateway: Pair) -> dict[str, str]:
    """What the compose file's secrets hold, by their names there. The same secrets give the same texts."""
    return {
        "queue_acl": acl.users_file(secret.redis),
        "queue_dash_url": _queue_url("dash", secret),
        "observer_url": _queue_url("observer", secret),
        "keeper_url": _queue_url("keeper", secret),
        "keeper_token": f"{secret.keeper_token}\n",  # Docker makes no secret of nothing
        "worker_queue_password": secret.redis["worker"],
        "worker_builds": json.dumps(dict(sorted(secret.builds.items()))),
        "filestore_token": secret.filestore_token,
        "filestore_read_token": secret.filestore_read_token,
        "influx_password": secret.influx_password,
        "influx_token": secret.influx_token,
        "influx_write_token": secret.influx_write_token,
        "influx_read_token": secret.influx_read_token,
        "grafana_password": secret.grafana_password,
        "gateway_tokens": _gateway_tokens(secret),
        "gateway_users": f"{DASH_USER}:{_ssha(secret.dash_password, secret.salt)}\n",
        "gateway_certificate": gateway.certificate,
        "gateway_key": gateway.key,
        "tls_certificate": certificates.server.certificate,
        "tls_key": certificates.server.key,
    }


def named(stack: str, salt: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Docker's names: they end in a hash of the contents, since a secret or config can never be changed."""
    return {
        name: f"{stack}_{name}_{hashlib.blake2b(text.encode(), key=salt.encode(), digest_size=6).hexdigest()}"
        for name, text in texts.items()
    }


def _queue_url(role: acl.Role, secret: Secrets) -> str:
    return f"redis://{role}:{urllib.parse.quote(secret.redis[role], safe='')}@queue:6379/0"


def _gateway_tokens(secret: Secrets) -> str:
    """For nginx: which role a token has."""
    roles = {"write": secret.influx_write_token, "read": secret.influx_read_token}
    lines = ["map $http_authorization $influx_role {", '  default "";']
    for role, token in roles.items():
        # A pattern, and no text, of which the case would not matter. The scheme's does not (RFC 9110, 11.1).
        lines.append(f'  "~^(?i:Token|Bearer) {_pattern(token)}$" {role};')
    return "\n".join([*lines, "}"]) + "\n"


def _pattern(text: str) -> str:
    """For nginx: matches ``text`` alone."""
    return "".join(
        letter if letter.isascii() and letter.isalnum() else f"\\x{ord(letter):02x}" for letter in text
    )


def _ssha(password: str, salt_text: str) -> str:
    """As nginx reads it (RFC 2307). SHA-1 is enough for 24 random bytes, and a fixed salt changes nothing."""
    salt = hashlib.sha256(salt_text.encode()).digest()[:8]
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def _given(path: Path, said: str | None) -> str:
    """What was said this time or, with None, before; "" ends it."""
    before = read_text(path).strip()
    if said is None or said == before:
        return before
    write_private(path, said)
    return said


def _builds(paths: SwarmPaths, said: Mapping[str, str]) -> dict[str, str]:
    """The variables for builds: what is said this time, over what was said before. "" ends one.

    Those that are files here are handed over with what is in them.
    """
    path = paths.secret(_BUILDS)
    text = read_text(path)
    try:
        before: dict[str, str] = json.loads(text) if text else {}
        now = {name: value for name, value in {**before, **_with_contents(said)}.items() if value}
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not what a stack keeps ({error}); remove it and deploy again") from error
    if now != before:
        write_private(path, json.dumps(now, indent=2, sort_keys=True) + "\n")
    return now


def _with_contents(said: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, value in said.items():
        if value.startswith(("/", "~", "file:")) and not name.startswith(config.BUILD_PREFIX):
            # A file of this machine, which nodes do not have. Their images know the authorities they need.
            continue
        if name.startswith(config.BUILD_PREFIX) and name.endswith("_FILE"):
            found[name.removesuffix("_FILE")] = config.secret(said, name.removesuffix("_FILE"))
        else:
            found[name] = value
    return found
