"""What an ensemble may be called and ask for; checked before anything is sent."""

from __future__ import annotations

import math

from cloudburst import names
from cloudburst.errors import EnsembleError
from cloudburst.model import EnsembleSpec

LONGEST_S = 10 * 365 * 86400
"""A timeout beyond it is a mistake, such as milliseconds."""


def check(spec: EnsembleSpec) -> None:
    """EnsembleError for what no ensemble can be."""
    if not names.NAME.fullmatch(spec.name):
        raise EnsembleError(f"ensemble name {spec.name!r:.100}: {names.NAME_RULE}")
    parts = spec.function.split(".")
    if len(parts) == 1 or not all(part.isidentifier() for part in parts):
        raise EnsembleError(f"function {spec.function!r:.100}: give module and function, such as worker.work")
    if parts[0] == "__main__":
        raise EnsembleError(
            f"function {spec.function!r:.100}: __main__ is the program that runs jobs: rename the module"
        )
    if spec.retries < 0:
        raise EnsembleError(f"retries: should not be negative, got {spec.retries}")
    if spec.max_attempts < 1:
        raise EnsembleError(f"max_attempts: should be at least 1, got {spec.max_attempts}")


def whole_seconds(timeout_s: float) -> int:
    """A time limit as it is stored (EnsembleError when it is none)."""
    try:
        seconds = float(timeout_s)
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds <= LONGEST_S:
        raise EnsembleError(
            f"timeout_s: should be more than 0 seconds, and at most ten years, got {timeout_s!r:.60}"
        )
    return math.ceil(seconds)
