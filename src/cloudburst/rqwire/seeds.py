"""The seed of an ensemble, from which the random numbers of its jobs are derived."""

from __future__ import annotations

import hashlib
import secrets

BITS = 63
"""Bits of a seed, a whole number from 0: it fits into a signed integer of 64 bits."""


def new() -> int:
    """A random one."""
    return secrets.randbits(BITS)


def implied(name: bytes) -> int:
    """That of a stock job with this id, and of an ensemble that an older version began."""
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> (64 - BITS)


def recorded(raw: bytes | None, name: bytes) -> int:
    """That of the ensemble ``name``, whose hash holds ``raw``."""
    seed = int(raw) if raw and raw.isdigit() and len(raw) <= len(str(2**BITS)) else 2**BITS
    return seed if seed < 2**BITS else implied(name)
