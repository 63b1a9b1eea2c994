"""A quota of one's own: what sizes weigh, and how much a stack may weigh in all."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudburst import config
from cloudburst.errors import ConfigError

VARIABLE = "CLOUDBURST_FLAVORS"


@dataclass(frozen=True)
class Quota:
    """The table."""

    source: str
    maximum: float
    weights: Mapping[str, float]
    """By size."""


def quota(environ: Mapping[str, str]) -> Quota | None:
    """The quota of ``$CLOUDBURST_FLAVORS``, else of ``flavors.toml`` beside the stacks; None without one.

    Raises ConfigError for a file that is none, and for a missing one that was named.
    """
    named = environ.get(VARIABLE)
    path = Path(named).expanduser() if named else config.home(environ) / "flavors.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise ConfigError(f"{VARIABLE}: there is no file {named}") from None
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    unknown = sorted(table.keys() - {"maximum", "flavors"})
    if unknown:
        raise ConfigError(f"{path}: {unknown[0]}: unknown key; known are maximum and flavors")
    weights = table.get("flavors")
    if not isinstance(weights, dict) or not weights:
        raise ConfigError(f"{path}: flavors: should be a table of sizes and weights, as s-2vcpu-4gb = 1")
    for name, value in {"maximum": table.get("maximum"), **weights}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ConfigError(f"{path}: {name}: should be a number that is not negative, got {value!r}")
    return Quota(str(path), table["maximum"], weights)


def check(limit: Quota | None, sizes: Sequence[str]) -> None:
    """Raise ConfigError when machines of these sizes weigh more, together, than the quota allows."""
    if limit is None:
        return
    unknown = sorted(set(sizes) - limit.weights.keys())
    if unknown:
        raise ConfigError(
            f"{limit.source}: size {unknown[0]} is not in the table flavors, so it may not be used; "
            f"these are: {', '.join(limit.weights)}"
        )
    total = sum(limit.weights[size] for size in sizes)
    if total > limit.maximum:
        parts = [f"{sizes.count(size)} × {size} at {limit.weights[size]:g}" for size in dict.fromkeys(sizes)]
        raise ConfigError(
            f"{limit.source}: this stack would weigh {total:g} ({', '.join(parts)}), "
            f"and {limit.maximum:g} is the most: fewer nodes or smaller sizes, or change the file"
        )
