"""From the spool to the database, oldest first, whenever the database takes it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from cloudburst.points.batch import sift
from cloudburst.points.database import Away, Database
from cloudburst.points.parse import LineError, parse, whole_lines
from cloudburst.points.spool import Spool

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
"""The pause after a failure doubles from the first to the longest of these."""

REFUSALS = 32
"""So often the database may refuse lines of one file before those that it refuses are told together."""


class Drain:
    """Delivers the spool in a thread of its own, so that a database that hangs holds up no job."""

    def __init__(self, spool: Spool, database: Database, *, removed: Callable[[], None]) -> None:
        """``removed`` is called, from the thread, whenever the spool has become smaller."""
        self._spool = spool
        self._database = database
        self._removed = removed
        self._changed = threading.Condition()
        self._closing = False
        self._pause_s = FIRST_PAUSE_S
        self._not_before = 0.0
        self._reason = ""
        """Why the database was away the last time, as it was logged."""
        self._thread = threading.Thread(target=self._run, name="points-spool", daemon=True)
        self._thread.start()

    def spooled(self) -> None:
        """To be called after each addition to the spool."""
        with self._changed:
            self._changed.notify()

    def away(self, away: Away) -> None:
        """Leave the database alone for a while; log why, unless that was logged before."""
        with self._changed:
            if str(away) != self._reason:
                self._reason = str(away)
                log.log(
                    logging.ERROR if away.setting else logging.WARNING,
                    "points: %s; until it takes them they are kept on disk",
                    away,
                )
            self._not_before = time.monotonic() + max(away.retry_after_s, self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def back(self) -> None:
        """Log that the database takes points again, if it was logged that it did not."""
        with self._changed:
            self._pause_s = FIRST_PAUSE_S
            if self._reason:
                self._reason = ""
                log.info("points: %s takes them again", self._database.url)

    @property
    def reason(self) -> str:
        """Why the database was away when it was asked last; "" if it was not."""
        with self._changed:
            return self._reason

    def close(self, grace_s: float) -> None:
        """Deliver what the database takes without a further pause, within ``grace_s``."""
        with self._changed:
            self._closing = True
            self._not_before = 0.0
            self._changed.notify()
        self._thread.join(grace_s)
        if self._spool:
            log.warning("points: %s, for the next worker with this state directory to deliver", self._spool)

    def _run(self) -> None:
        while self._is_time():
            try:
                self._deliver_some()
            except Away as away:
                self.away(away)
                if self._closing:
                    break
            except Exception:
                # Whatever it is, such as a disk that cannot be read: nothing may be lost by giving up.
                log.exception("points: the spool cannot be delivered, trying again")
                self.away(Away("the spool cannot be delivered"))
                if self._closing:
                    break
        self._database.close()

    def _is_time(self) -> bool:
        """Wait until there is something to deliver; False when there is nothing, and never will be."""
        with self._changed:
            while True:
                pause_s = self._not_before - time.monotonic() if self._spool else None
                if pause_s is not None and pause_s <= 0:
                    return True
                if self._closing and not self._spool:
                    return False
                self._changed.wait(pause_s)

    def _deliver_some(self) -> None:
        """Deliver a batch of files; those that are done are removed, even if the database goes away."""
        files = self._spool.first()
        while files and not files[0][1]:  # nothing of it was sound
            self._spool.remove(files.pop(0)[0])
        for span, reason in sift([lines for _, lines in files], self._database.write):
            for path, lines in files[span.start : span.stop]:
                if reason:
                    self._deliver_but_malformed(lines)
                self._spool.remove(path)
            self.back()
            self._removed()

    def _deliver_but_malformed(self, lines: bytes) -> None:
        """Their jobs are final, so all that can be done for lines that are refused is to keep them.

        One job may have written a hundred thousand that are, and the points of others wait behind them.
        """
        pieces = list(whole_lines(lines))
        wrong = dict(_unreadable(pieces))
        pieces = [piece for number, piece in enumerate(pieces) if number not in wrong]
        # All of it before any is put aside: if the database goes away meanwhile, it all happens again.
        for span, reason in list(sift(pieces, self._database.write, most=REFUSALS)):
            if reason:
                self._spool.refuse(b"".join(pieces[span.start : span.stop]), reason)
        for line, reason in wrong.values():
            self._spool.refuse(line, reason)


def _unreadable(pieces: Iterable[bytes]) -> Iterator[tuple[int, tuple[bytes, str]]]:
    """Which of them are no line protocol, and why: the database need not be asked."""
    for number, piece in enumerate(pieces):
        try:
            deque(parse(piece.decode(), now=0), maxlen=0)
        except (UnicodeDecodeError, LineError) as error:
            yield number, (piece, getattr(error, "reason", "no text"))
