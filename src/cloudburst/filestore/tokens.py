"""What a token may look like, for client and server alike, and what it gives the right to."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Right = Literal["write", "read"]
"""``write`` is everything; ``read`` is to list and fetch."""


@dataclass(frozen=True)
class Tokens:
    """What lets clients in, and to what."""

    write: str
    read: str = ""
    """"": nobody may only read."""

    def __repr__(self) -> str:
        return "Tokens(***)"

    def right(self, brought: Iterable[str]) -> Right | None:
        """The greatest right that one of these tokens gives; None when all are wrong."""
        # In constant time, so that the time taken tells nothing about the tokens.
        given = [each.encode() for each in brought]
        writes = [hmac.compare_digest(each, self.write.encode()) for each in given]
        reads = [hmac.compare_digest(each, self.read.encode()) for each in given]
        if any(writes):
            return "write"
        return "read" if self.read and any(reads) else None

    def masked(self, text: str) -> str:
        """``text`` without the tokens in it."""
        for token in (self.write, self.read):
            text = text.replace(token, "***") if token else text
        return text


def can_be_sent(token: str) -> bool:
    """Whether an HTTP header can carry the token: printable ASCII without spaces."""
    return token.isascii() and token.isprintable() and " " not in token
