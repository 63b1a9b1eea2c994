"""Money and spans of time, as users write and read them."""

from __future__ import annotations

import re

from cloudburst import pace
from cloudburst.errors import ConfigError


def seconds(text: str, flag: str) -> float:
    """``30m``, ``8h``, ``1h30m``, ``2d`` or ``90s``; 0: none. Raises ConfigError naming ``flag``.

    A number alone is refused: of the life of a stack nobody means seconds.
    """
    if text in {"0", ""}:
        return 0.0
    try:
        if text[-1:].isdecimal():
            raise ValueError("no unit")
        return pace.seconds(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: write a span of time as 30m, 8h or 2d (0: none); got {text!r}") from error


def per_hour(text: str, flag: str) -> float:
    """``5/h`` or ``50/d``, US dollars, as dollars per hour. Raises ConfigError naming ``flag``."""
    if text in {"0", ""}:
        return 0.0
    match = re.fullmatch(r"\$?(\d+(?:\.\d+)?)/(h|d)", text)
    if not match:
        raise ConfigError(
            f"{flag}: write US dollars per hour or per day, as 5/h or 50/d (0: no limit); got {text!r}"
        )
    return float(match[1]) / (1 if match[2] == "h" else 24)


def dollars(amount: float) -> str:
    """``$3.43``; amounts below a dollar with as many digits as prices per hour have: ``$0.03571``."""
    text = f"{amount:.2f}" if amount >= 1 or amount == 0 else f"{amount:.5f}".rstrip("0")
    return f"${text if len(text.partition('.')[2]) >= 2 else f'{amount:.2f}'}"


def rate(hourly: float) -> str:
    """``$0.1428 per hour, $3.43 per day``."""
    return f"{dollars(hourly)} per hour, ${hourly * 24:.2f} per day"


def spent(amount: float) -> str:
    """What something has cost, to the cent: ``$0.52``; ``less than $0.01``."""
    return "less than $0.01" if 0 < amount < 0.01 else f"${amount:,.2f}"


def age(span_s: float) -> str:
    """``40 s``, ``12 min``, ``3 h 12 min``, ``2 d 4 h``."""
    if span_s < 90:
        return f"{max(span_s, 0):.0f} s"
    minutes = int(span_s // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
