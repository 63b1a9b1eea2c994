"""What the jobs of an ensemble ran on, as a document for machines; docs/payloads.md explains its keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cloudburst.errors import FileStoreError, PayloadError
from cloudburst.model import EnsembleStatus, JobState, Provenance

STATES: tuple[JobState, ...] = ("finished", "failed", "cancelled")

Counted = list[tuple[Provenance, dict[JobState, int]]]
"""What jobs ran on, and how many of their records are in which state."""


def document(status: EnsembleStatus, counted: Counted, lock_of: Callable[[str], str]) -> dict[str, Any]:
    """``lock_of`` gives the text of a payload's Pipfile.lock, or raises PayloadError or FileStoreError."""
    ran = sum(count for _, counts in counted for count in counts.values())
    payloads = dict.fromkeys(provenance.payload for provenance, _ in counted)
    if status.payload:
        payloads.setdefault(status.payload)
    return {
        "ensemble": status.id,
        "function": status.function,
        "seed": status.seed,
        "jobs": status.total,
        "waiting": status.waiting,
        "running": status.running,
        "ended_unrun": status.ended - ran,
        "payloads": [_payload(digest, status, counted, lock_of) for digest in payloads],
    }


def _payload(
    digest: str, status: EnsembleStatus, counted: Counted, lock_of: Callable[[str], str]
) -> dict[str, Any]:
    lock, error = _lock(digest, lock_of)
    return {
        "payload": digest,
        "current": digest == status.payload,
        "lock": lock,
        "lock_error": error,
        "ran_on": [_ran_on(one, counts) for one, counts in counted if one.payload == digest],
    }


def _ran_on(provenance: Provenance, counts: dict[JobState, int]) -> dict[str, Any]:
    return {
        "environment": provenance.environment,
        "python": provenance.python,
        "platform": provenance.platform,
        "cloudburst": provenance.cloudburst,
        "image": provenance.image,
        "counts": {state: counts.get(state, 0) for state in STATES},
    }


def _lock(digest: str, lock_of: Callable[[str], str]) -> tuple[dict[str, Any] | None, str]:
    """The lock, or why there is none."""
    try:
        found = json.loads(lock_of(digest))
    except (PayloadError, FileStoreError) as error:
        return None, str(error)
    except ValueError as error:
        return None, f"payload {digest:.12}: its Pipfile.lock is not JSON ({error})"
    return (found, "") if isinstance(found, dict) else (None, f"payload {digest:.12}: its lock is no object")
