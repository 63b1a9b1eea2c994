"""Waiting when an account has made too many calls (5,000 per hour, 250 per minute)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from cloudburst.errors import ProviderError

log = logging.getLogger(__name__)

LONGEST_S = 300.0
"""One call waits no longer in all: the limit per minute is over by then, that per hour may not be."""

DEFAULT_S = 10.0


class RateLimit:
    """How long one call has waited so far."""

    def __init__(self, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._sleep = sleep
        self._clock = clock
        self._waited_s = 0.0

    def wait(self, headers: Mapping[str, str]) -> None:
        """Wait as long as the answer 429 says; ProviderError if that is too long."""
        wait_s = self._asked_s(headers)
        if self._waited_s + wait_s > LONGEST_S:
            raise ProviderError(
                "the account has made more calls of DigitalOcean's API than it may: "
                f"try again in {max(wait_s / 60, 1):.0f} min",
                status=429,
            )
        log.info("DigitalOcean asks to wait for %.0f s: too many calls", wait_s)
        self._waited_s += wait_s
        self._sleep(wait_s)

    def _asked_s(self, headers: Mapping[str, str]) -> float:
        """``retry-after`` counts seconds; without it, ``ratelimit-reset`` is Unix time."""
        for name, origin in (("retry-after", 0.0), ("ratelimit-reset", self._clock())):
            try:
                return max(float(headers[name]) - origin, 1.0)
            except (KeyError, ValueError):
                continue
        return DEFAULT_S
