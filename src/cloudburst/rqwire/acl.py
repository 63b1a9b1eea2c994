"""Who may do what in Redis: the users of a stack, each with what its role needs and no more.

Rules are words of ``ACL SETUSER`` that Redis 6.2 understands, too: no selectors, no patterns of keys that are
for reading alone. Redis checks what scripts do by the rules of whoever calls them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, get_args

from cloudburst.errors import ConfigError

Role = Literal["client", "worker", "dash", "observer", "keeper", "operator", "health"]
"""Also the name of its user. ``health`` needs no password, and may only ask whether Redis is up."""

ROLES: tuple[Role, ...] = get_args(Role)

_CONNECTION = (
    "+client|setname",
    "+client|getname",
    "+client|id",
    # Its version, which decides how it is spoken to. INFO counts as dangerous because it tells about load.
    "+info",
)
"""What client libraries send of their own, beside those of @connection that are not dangerous."""

_SAFE = ("-@admin", "-@dangerous")
_DATA = ("+@hash", "+@list", "+@set", "+@sortedset", "+@stream", "+@string")
"""The commands on data; which data, the patterns of keys say. Dangerous: SORT, which reads others."""

_KEYS = ("+del", "+unlink", "+exists", "+type", "+ttl", "+pttl", "+touch")
_LIVES = ("+expire", "+expireat", "+pexpire", "+pexpireat", "+persist")
_SCRIPTS = ("+eval", "+evalsha", "+script|load", "+script|exists", "+time")
_TRANSACTIONS = ("+multi", "+exec", "+discard", "+watch", "+unwatch")

# Words count in their order: first the categories, then what is taken from them, then single commands.
_WRITER = ("+@connection", *_DATA, *_SAFE, *_CONNECTION, *_KEYS, *_LIVES, *_SCRIPTS, *_TRANSACTIONS)
_READER = ("+@connection", "+@read", *_SAFE, "-scan", "-randomkey", *_CONNECTION, *_TRANSACTIONS)

_ENSEMBLES = ("~rq:*", "~cb:ens:*", "~cb:open:*", "~cb:lease:*", "~cb:output:*", "~cb:stats")
_WORKERS = (
    "~cb:build:*",
    "~cb:full:*",
    "~cb:reaped:*",
    "~cb:recent:*",
    "~cb:swept:*",
    "~cb:nodes",
)

_FAREWELL = ("~cb:ending", "~cb:watchers")
"""What the keeper says to clients about the stack's end, and they to it."""

_ORDERS = "&rq:pubsub:*"
"""Channels on which workers are told what to do."""

_RULES: dict[Role, tuple[str, ...]] = {
    # SCAN, for the audit: it shows the names of keys, not what is in them.
    "client": (*_ENSEMBLES, "~cb:ensembles", *_FAREWELL, _ORDERS, *_WRITER, "+scan", "+publish"),
    # PFADD and PFCOUNT: about how many values the tags of an ensemble's points have.
    "worker": (
        *(*_ENSEMBLES, *_WORKERS, _ORDERS, *_WRITER),
        *("+subscribe", "+unsubscribe", "+pfadd", "+pfcount"),
    ),
    "dash": ("~rq:*", *_READER),
    "observer": ("~rq:*", "~cb:*", *_READER),
    # Writes hashes only: its own, and the wishes for nodes, with the script that operators use.
    "keeper": ("~rq:*", "~cb:*", *_READER, "+hset", "+hdel", *_SCRIPTS),
    "operator": ("~*", "&*", "+@all"),
    "health": ("+ping",),
}


def rules(role: Role) -> tuple[str, ...]:
    """What the role may do: words of ``ACL SETUSER`` for a user that may do nothing yet."""
    return _RULES[role]


def users_file(passwords: Mapping[str, str]) -> str:
    """Text of a file of users (``aclfile``): one per role in ``passwords``, and ``health``.

    The file holds digests of the passwords. ConfigError for a role that there is not, or an empty password.
    """
    # Nobody can be this user; but Redis is, when it reads its append-only file: what `default` may not do is
    # left out of scripts then, without a word but in the log.
    lines = ["user default off resetpass ~* &* +@all", _user("health", "nopass")]
    for role, password in sorted(passwords.items()):
        if role not in ROLES or role == "health":
            raise ConfigError(f"queue users: {role!r} is not one of {', '.join(ROLES[:-1])}")
        if not password:
            raise ConfigError(f"queue users: {role} has no password")
        lines.append(_user(role, f"#{hashlib.sha256(password.encode()).hexdigest()}"))
    return "\n".join(lines) + "\n"


def _user(role: Role, password: str) -> str:
    return " ".join(("user", role, "on", password, "resetkeys", "resetchannels", "-@all", *rules(role)))
