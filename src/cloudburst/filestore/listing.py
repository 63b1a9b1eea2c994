"""What a listing says about one file; the same on both sides."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoredFile:
    """One file of the file store."""

    name: str
    size: int
    modified_at: float
    """Unix time in seconds."""
