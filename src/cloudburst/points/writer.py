"""The worker's way to the database: points are acknowledged or safe on disk before their job is final.

One thread writes what has come together since its last write, so that many short jobs share a write and a
single job waits for none. When the database is away for longer than a moment, points go to the spool at
once and are delivered in order when it is back, also by the next worker. Writing twice overwrites, so a
write whose answer was lost does no harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloudburst.points.database import Away, Database, Login, Malformed, TooLarge
from cloudburst.points.spool import Spool

log = logging.getLogger(__name__)

BATCH_BYTES = 1 << 20
"""Bytes per write: about 10,000 lines."""

PATIENCE_S = 2.0
"""A database that is away for so long is away: points go to the spool."""

RETRY_S = 1.0
"""How often a database that is away is tried again."""

SPOOL_LIMIT_BYTES = 4 << 30


@dataclass(frozen=True)
class Answer:
    """What became of the points of one submission."""

    token: str
    state: Literal["acknowledged", "spooled", "rejected"]
    message: str = ""


@dataclass(frozen=True)
class _Submission:
    lines: bytes
    token: str


class PointWriter:
    """Takes points from the worker's loop and answers for each submission, in a thread of its own."""

    def __init__(
        self,
        login: Login,
        spool_dir: Path,
        *,
        called: Callable[[], None],
        patience_s: float = PATIENCE_S,
        spool_limit_bytes: int = SPOOL_LIMIT_BYTES,
    ) -> None:
        """``called`` is called, from the thread, when ``poll`` has something to say."""
        self._database = Database(login)
        self._spool = Spool(spool_dir)
        self._called = called
        self._patience_s = patience_s
        self._spool_limit_bytes = spool_limit_bytes
        self._waiting: deque[_Submission] = deque()
        self._answers: deque[Answer] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._away_since = -patience_s if self._spool else 0.0
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name="points", daemon=True)
        self._thread.start()

    def submit(self, lines: bytes, token: str) -> None:
        """Hand over line protocol (nanoseconds); ``token`` comes back with the answer."""
        with self._changed:
            self._waiting.append(_Submission(lines, token))
            self._changed.notify()

    def poll(self) -> list[Answer]:
        """Answers since the last call."""
        answers = []
        while self._answers:
            answers.append(self._answers.popleft())
        return answers

    def close(self, grace_s: float) -> None:
        """Write or spool what is left, within ``grace_s``."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(grace_s)

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._closing, self._pause())
                batch = self._take()
                closing = self._closing and not batch
            try:
                if self._spool and time.monotonic() >= self._retry_at:
                    self._drain()
                if batch:
                    self._deliver(batch)
            except Exception:
                log.exception("points: trying again")
                with self._changed:
                    self._waiting.extendleft(reversed(batch))
                time.sleep(RETRY_S)
            if closing:
                self._database.close()
                return

    def _pause(self) -> float | None:
        return max(self._retry_at - time.monotonic(), 0.0) if self._spool else None

    def _take(self) -> list[_Submission]:
        batch: list[_Submission] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].lines) <= BATCH_BYTES):
            batch.append(self._waiting.popleft())
            size += len(batch[-1].lines)
        return batch

    def _deliver(self, batch: list[_Submission]) -> None:
        """Write a batch and answer for each of its submissions, whatever happens."""
        lines = b"".join(submission.lines for submission in batch)
        while True:
            if self._spool and self._keep(batch, lines):
                return
            try:
                self._write(lines)
            except Away as away:
                self._note_away(away)
                if time.monotonic() - self._away_since >= self._patience_s and self._keep(batch, lines):
                    return
                time.sleep(min(max(away.retry_after_s, 0.2), RETRY_S))
            except Malformed as error:
                self._find_malformed(batch, str(error))
                return
            else:
                self._note_back()
                self._answer(batch, "acknowledged")
                return

    def _find_malformed(self, batch: list[_Submission], message: str) -> None:
        """Some lines of the batch are wrong; only the submissions that they came with are."""
        if len(batch) == 1:
            self._answer(batch, "rejected", message)
            return
        middle = len(batch) // 2
        self._deliver(batch[:middle])
        self._deliver(batch[middle:])

    def _keep(self, batch: list[_Submission], lines: bytes) -> bool:
        """Put a batch on disk; False when there is no room, and the database has to be waited for."""
        if self._spool.size_bytes + len(lines) > self._spool_limit_bytes:
            log.error("points: the spool is full, jobs wait for the database")
            return False
        try:
            self._spool.add(lines)
        except OSError as error:
            log.error("points: cannot be spooled (%s), jobs wait for the database", error)
            return False
        self._answer(batch, "spooled")
        return True

    def _drain(self) -> None:
        """Deliver the spool, oldest first, until it is empty or the database is away."""
        while self._spool:
            path, lines = self._spool.first()
            try:
                self._write_salvaging(lines)
            except Away as away:
                self._note_away(away)
                self._retry_at = time.monotonic() + max(away.retry_after_s, RETRY_S)
                return
            self._spool.remove(path)
        self._note_back()
        log.info("points: the spool is delivered")

    def _write(self, lines: bytes) -> None:
        """Write lines, in pieces if the database wants that."""
        try:
            self._database.write(lines)
        except TooLarge as error:
            first, second = _halves(lines)
            if not second:
                raise Malformed(str(error)) from error
            self._write(first)
            self._write(second)

    def _write_salvaging(self, lines: bytes) -> None:
        """Write spooled lines; those that the database never takes are put aside, as their jobs are final."""
        try:
            self._write(lines)
        except Malformed as error:
            first, second = _halves(lines)
            if second:
                self._write_salvaging(first)
                self._write_salvaging(second)
            else:
                log.error("points: the database refuses a spooled line for good: %s", error)
                self._spool.refuse(first.strip(), str(error))

    def _note_away(self, away: Away) -> None:
        if not self._away_since:
            self._away_since = time.monotonic()
            log.warning("points: %s", away)

    def _note_back(self) -> None:
        if self._away_since:
            log.info("points: the database is back")
        self._away_since = 0.0

    def _answer(
        self,
        batch: list[_Submission],
        state: Literal["acknowledged", "spooled", "rejected"],
        message: str = "",
    ) -> None:
        self._answers.extend(Answer(submission.token, state, message) for submission in batch)
        self._called()


def _halves(lines: bytes) -> tuple[bytes, bytes]:
    """Two halves at the newline nearest behind the middle; the second is empty for a single line."""
    cut = lines.find(b"\n", len(lines) // 2)
    if cut in {-1, len(lines) - 1}:
        cut = lines.rfind(b"\n", 0, len(lines) // 2)
    return (lines[: cut + 1], lines[cut + 1 :]) if cut >= 0 else (lines, b"")


def open_writer(login: Login, spool_dir: Path, *, called: Callable[[], None]) -> PointWriter | None:
    """A writer, unless no database is configured."""
    return PointWriter(login, spool_dir, called=called) if login.url else None
