"""Making one thing once, although answers get lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.api import UncertainError

T = TypeVar("T")

LOOK_WAITS_S = (1.0, 3.0, 6.0)
"""Before the looks after a call whose answer was lost: what it made may be listed a little later."""

ATTEMPTS = 4


class Certainly:
    """Makes one thing; looks for it before it asks for a second time."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep

    def made(self, make: Callable[[], T], look: Callable[[], T | None]) -> T:
        """What ``make`` made, or ``look`` found; ProviderError of the last attempt when neither will do."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return make()
            except UncertainError:
                for wait_s in LOOK_WAITS_S:
                    self._sleep(wait_s)
                    found = look()
                    if found is not None:
                        return found
                if attempt == ATTEMPTS:
                    raise
            except ProviderError:
                # “There is one already”: the first call was executed, and listed later than we looked.
                found = look() if attempt > 1 else None
                if found is None:
                    raise
                return found
        raise AssertionError("the last attempt returns or raises")
