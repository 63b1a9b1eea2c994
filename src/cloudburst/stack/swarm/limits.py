"""How much memory of the master its queue and its database may take."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloudburst.errors import ConfigError

INFLUX = "CLOUDBURST_INFLUX_MEMORY"
QUEUE = "CLOUDBURST_QUEUE_MEMORY"

MIB = 1 << 20
STEP = 256 * MIB
"""Sizes are whole numbers of these: a machine's memory differs a little from kernel to kernel, and each other
limit would start the services again."""

LEAST = 512 * MIB

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def variables(memory_bytes: int, chosen: Mapping[str, str]) -> dict[str, str]:
    """What the compose file is told, for a master with that memory (0: not known) and the user's variables.

    InfluxDB gets a quarter, since one query may take all that it is given. Redis fills half, then it accepts
    no new jobs; its container may take more, since jobs go on then, and rewriting its file takes a copy of
    what changes meanwhile. The rest is for the services with limits of their own, and for the system.
    """
    influx = memory(INFLUX, chosen[INFLUX]) if INFLUX in chosen else _part(memory_bytes, 1 / 4)
    found: dict[str, str] = {}
    if influx:
        found |= {
            INFLUX: str(influx),
            "CLOUDBURST_INFLUX_GOMEMLIMIT": str(influx * 4 // 5),
            "CLOUDBURST_INFLUX_QUERY_BYTES": str(influx // 16),
        }
    if memory_bytes:
        queue = memory(QUEUE, chosen[QUEUE]) if QUEUE in chosen else _part(memory_bytes, 1 / 2)
        found[QUEUE] = chosen.get(QUEUE, str(queue))
        found["CLOUDBURST_QUEUE_LIMIT"] = str(max(_part(memory_bytes, 7 / 8), queue * 5 // 4))
    return found


def memory(name: str, text: str) -> int:
    """Bytes in ``2gb``, ``512m`` or ``1073741824``. Raises ConfigError that names the variable."""
    found = re.fullmatch(r"([0-9]{1,15})([kmg]?)b?", text.lower())
    if not found:
        raise ConfigError(
            f"{name}: should be a number of bytes, or with kb, mb or gb, such as 2gb, got {text!r}"
        )
    return int(found[1]) * _UNITS[found[2]]


def _part(memory_bytes: int, share: float) -> int:
    if not memory_bytes:
        return 0
    return max(int(memory_bytes * share) // STEP * STEP, LEAST)
