"""The queue of one stack, asked again while it is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import redis

from cloudburst.errors import QueueError
from cloudburst.rqwire.connection import Distrusted, connect, explained, shown
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.ledger import Ledger

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""A Redis that restarts is back within seconds; one that reads a long append-only file within a minute."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0

P = ParamSpec("P")
T = TypeVar("T")


class Connection:
    """What a client needs of Redis. Raises QueueError at once when Redis does not let it in."""

    def __init__(self, url: str, *, ca_file: str = "", patience_s: float = PATIENCE_S) -> None:
        self.url = url
        self.redis = connect(url, ca_file=ca_file)
        self._ca_file = ca_file
        self.ensembles = Ensembles(self.redis)
        self.ledger = Ledger(self.redis)
        self._patience_s = patience_s

    def patiently(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call that may be repeated; QueueError when Redis stays away too long."""
        deadline = time.monotonic() + self._patience_s
        pause = FIRST_PAUSE_S
        while True:
            try:
                return self.once(call, *args, **kwargs)
            except QueueError as error:
                if not _away(error) or time.monotonic() + pause > deadline:
                    raise
            if pause == FIRST_PAUSE_S:
                log.warning("Redis at %s does not answer; trying again", shown(self.url))
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def once(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call that must not be repeated; QueueError when Redis is away or refuses."""
        with explained(self.url, self._ca_file):
            return call(*args, **kwargs)


def _away(error: QueueError) -> bool:
    """Whether Redis did not answer, or is still loading its data; not when it refuses."""
    cause = error.__cause__
    refused = isinstance(cause, redis.AuthenticationError | redis.exceptions.AuthorizationError)
    if isinstance(error, Distrusted):
        return False
    return isinstance(cause, redis.ConnectionError | redis.TimeoutError) and not refused
