"""What a token may look like, for client and server alike."""

from __future__ import annotations


def can_be_sent(token: str) -> bool:
    """Whether an HTTP header can carry the token: printable ASCII without spaces."""
    return token.isascii() and token.isprintable() and " " not in token
