"""What a droplet costs: by the second, at least a cent, and never more in a month than its monthly price.

As https://docs.digitalocean.com/products/droplets/details/pricing/ has it; months are of UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

LEAST = 0.01
"""US dollars, for each droplet that there ever was."""


def cost(created_at: float, until: float, price_hourly: float, price_monthly: float = 0.0) -> float:
    """US dollars from one Unix time in seconds to another; ``price_monthly`` 0: it is not known.

    0 for a droplet of which it is not known when it was created.
    """
    if not created_at or not price_hourly:
        return 0.0
    total = 0.0
    for span_s in _months(created_at, max(until, created_at)):
        by_time = span_s / 3600 * price_hourly
        total += min(by_time, price_monthly) if price_monthly else by_time
    return max(total, LEAST)


def _months(begin: float, end: float) -> Iterator[float]:
    """How many seconds of that span are in each month."""
    while begin < end:
        now = datetime.fromtimestamp(begin, UTC)
        year, month = divmod(now.year * 12 + now.month, 12)
        following = datetime(year, month + 1, 1, tzinfo=UTC).timestamp()
        yield min(end, following) - begin
        begin = following
