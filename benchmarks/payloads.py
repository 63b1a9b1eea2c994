"""The payload of most benchmarks: functions that do nothing, or sleep; and the job descriptions for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DESCRIPTION_BYTES = 327
"""Length of a description as JSON: a handful of named parameters, as real ones have."""

MODULE = """
import time

def noop(params):
    return None

def nap(params):
    time.sleep(params["seconds"])
"""


def write(directory: Path, module: str = MODULE, settings: str = "") -> Path:
    """A payload without packages in ``directory``; ``settings`` is its cloudburst.toml."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "worker.py").write_text(module)
    (directory / "Pipfile").write_text("[packages]\n")
    if settings:
        (directory / "cloudburst.toml").write_text(settings)
    return directory


def descriptions(count: int) -> Iterator[dict[str, Any]]:
    """Of ``DESCRIPTION_BYTES`` each, all different, the same in every run."""
    for seed in range(count):
        description: dict[str, Any] = {
            "seed": seed,
            "spread": 0.3,
            "network": "Net3",
            "duration_s": 604800,
            "pattern": [round(0.5 + (seed * 7919 + hour * 104729) % 1000 / 1000, 3) for hour in range(24)],
            "label": "",
        }
        lacking = DESCRIPTION_BYTES - len(json.dumps(description, separators=(",", ":")))
        yield description | {"label": "x" * lacking}
