"""Waiting when an account has made too many calls.

It may make 5,000 per hour and 250 per minute, and list its SSH keys ten times per minute. ``ratelimit-reset``
tells about the hour only, also in an answer that one of the others has caused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from cloudburst.errors import ProviderError

log = logging.getLogger(__name__)

LONGEST_S = 300.0
"""One call waits no longer in all: the limit per minute is over by then, that per hour may not be."""

DEFAULT_S = 10.0

MINUTE_S = 60.0

PER_MINUTE = ("account/keys",)
"""Paths with a limit of their own, which is over after a minute."""


class RateLimit:
    """How long one call has waited so far."""

    def __init__(self, path: str, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._is_per_minute = path in PER_MINUTE
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
        log.warning("DigitalOcean had too many calls of this account: waiting for %.0f s", wait_s)
        self._waited_s += wait_s
        self._sleep(wait_s)

    def _asked_s(self, headers: Mapping[str, str]) -> float:
        """``retry-after`` counts seconds; without it, ``ratelimit-reset`` is Unix time.

        An hour that is not used up has not caused it: then the limit was one per minute.
        """
        longest_s = MINUTE_S if self._is_per_minute else float("inf")
        asked_s = _number(headers, "retry-after")
        if asked_s is None:
            reset_at = _number(headers, "ratelimit-reset")
            asked_s = DEFAULT_S if reset_at is None else reset_at - self._clock()
            if _number(headers, "ratelimit-remaining"):
                longest_s = MINUTE_S
        return min(max(asked_s, 1.0), longest_s)


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers[name])
    except (KeyError, ValueError):
        return None
