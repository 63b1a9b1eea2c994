"""Lines on their way to the database; while it is away, the latest are kept in memory."""

from __future__ import annotations

import logging
from collections import deque

from cloudburst.points.batch import sift
from cloudburst.points.database import Away, Database, Login

log = logging.getLogger(__name__)

KEPT_ROUNDS = 2000
"""More than five hours, some kilobytes each."""

TIMEOUT_S = 5.0


class Outbox:
    """Writes rounds in their order. Measurements of the stack are not worth a disk of their own."""

    def __init__(self, login: Login) -> None:
        self._database = Database(login, timeout_s=TIMEOUT_S)
        self._rounds: deque[bytes] = deque(maxlen=KEPT_ROUNDS)
        self._reason = ""
        """Why the database was away, as it was logged."""

    @property
    def away(self) -> bool:
        """Whether the database has not taken the latest."""
        return bool(self._reason)

    def put(self, lines: list[str]) -> None:
        """Take one round; the oldest goes when there are too many."""
        if lines:
            self._rounds.append("".join(text + "\n" for text in lines if text).encode())

    def send(self) -> None:
        """Write what there is, as far as the database takes it."""
        rounds = list(self._rounds)
        try:
            for span, refusal in sift(rounds, self._database.write):
                for _ in span:
                    self._rounds.popleft()
                if refusal:
                    log.error("observer: the database refuses points: %s", refusal)
        except Away as away:
            if str(away) != self._reason:
                log.warning("observer: %s; the latest measurements are kept until it takes them", away)
            self._reason = str(away)
            return
        if self._reason:
            log.info("observer: %s takes points again", self._database.url)
            self._reason = ""
