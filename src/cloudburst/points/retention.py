"""How long points are kept, as a user writes it."""

from __future__ import annotations

import re

from cloudburst.errors import ConfigError

SHORTEST_S = 3600
"""InfluxDB keeps points for an hour at least."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def retention_s(text: str) -> int:
    """Seconds in ``90d``, ``12h``, ``52w``; 0, for ever, in ``0`` and ``0s``. Raises ConfigError."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text)
    if not found or (not found[2] and int(found[1])):
        raise ConfigError(
            f"CLOUDBURST_RETENTION: should be a number with s, m, h, d or w, such as 90d, got {text!r}"
        )
    seconds = int(found[1]) * _UNITS[found[2] or "s"]
    if 0 < seconds < SHORTEST_S:
        raise ConfigError(f"CLOUDBURST_RETENTION: should be 1h or more, or 0 for ever, got {text!r}")
    return seconds
