"""What an error of DigitalOcean's API means for the user, and what to do about it."""

from __future__ import annotations

import re
from typing import Any

TOKENS = "https://cloud.digitalocean.com/account/api/tokens"
STATUS = "https://status.digitalocean.com"

_RIGHTS = {"GET": "read", "POST": "create", "PUT": "update", "DELETE": "delete"}
_KINDS = (
    ("account/keys", "ssh_key"),
    ("account", "account"),
    ("droplets", "droplet"),
    ("firewalls", "firewall"),
    ("vpcs", "vpc"),
    ("tags", "tag"),
    ("sizes", "sizes"),
    ("regions", "regions"),
    ("images", "image"),
)


def right(method: str, path: str, *, by_tag: bool = False) -> str:
    """The scope that a token needs for that call, such as ``droplet:create``; "" for none that is known.

    ``by_tag``: things are chosen by their tag, which needs the right to read tags, too.
    """
    kind = next((kind for start, kind in _KINDS if path.startswith(start)), "")
    needed = f"{kind}:{_RIGHTS[method]}" if kind else ""
    return f"{needed} or tag:read" if needed and by_tag else needed


def lacks_right(reason: str) -> bool:
    """Whether a 403 is about the token, and not about the thing that was asked for.

    Seen: “You are not authorized to perform this operation”, and from a token that may only read “You do not
    have access for the attempted action”.
    """
    return re.search(r"authori[sz]ed|permission|scope|access", reason, re.IGNORECASE) is not None


def words(body: Any) -> tuple[str, str, str]:
    """``id``, ``message`` and ``request_id`` of an error's body, whatever the body is."""
    if not isinstance(body, dict):
        return "", "", ""
    return tuple(str(body.get(key) or "") for key in ("id", "message", "request_id"))  # type: ignore[return-value]


def advice(method: str, path: str, status: int, reason: str, *, by_tag: bool = False) -> str:
    """One sentence for the user; ``by_tag`` as of ``right``."""
    said = f"DigitalOcean says “{reason.rstrip('.')}” (HTTP {status})" if reason else f"HTTP {status}"
    if status == 401:
        return f"DigitalOcean does not accept the token: {said}; it may have expired; make one at {TOKENS}"
    if status == 403 and lacks_right(reason):
        needed = right(method, path, by_tag=by_tag)
        which = f"the right {needed}" if needed else "a right"
        return f"the token lacks {which}: {said}; make one that has it at {TOKENS}"
    if status >= 500:
        return (
            f"DigitalOcean has trouble with {method} {path}: {said}; "
            f"see {STATUS}, and run the same command again: it goes on from what there is"
        )
    return f"DigitalOcean refuses {method} {path}: {said}"
