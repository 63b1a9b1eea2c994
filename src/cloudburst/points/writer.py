"""The worker's way to the database: points are acknowledged or safe on disk before their job is final.

One thread writes what has come together since its last write, so that many short jobs share a write and a
single job waits for none. When the database is away for longer than a moment, points go to the spool, and so
do all that follow until another thread (``drain``) has delivered it: in order, also after a restart. Every
line has its time, so writing it twice overwrites, and a write whose answer was lost does no harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloudburst.errors import PointsError
from cloudburst.points.batch import BATCH_BYTES, first_batch, sift
from cloudburst.points.database import Away, Database, Login
from cloudburst.points.drain import Drain
from cloudburst.points.parse import whole_lines
from cloudburst.points.spool import Spool

log = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""A database that is away for so long is away: points go to the spool."""

GATHER_S = 0.01
"""Writes follow each other at this distance at least: each costs the worker about a millisecond."""

FIRST_PAUSE_S = 0.1
ROOM_PAUSE_S = 1.0
"""How often it is tried again when the spool has no room either."""

SHORTEST_TIMEOUT_S = 0.5
BACKGROUND_TIMEOUT_S = 30.0
"""How long one write of the spool may take; nobody waits for it."""

SPOOL_LIMIT_BYTES = 4 << 30

State = Literal["acknowledged", "spooled", "rejected"]


@dataclass(frozen=True)
class Answer:
    """What became of the points of one submission."""

    token: str
    state: State
    message: str = ""
    """Why they were rejected, in the database's words."""


class _Submission:
    """Lines that share a token, and what has become of them so far."""

    def __init__(self, lines: bytes, token: str) -> None:
        self.lines = lines if lines.endswith(b"\n") else lines + b"\n"
        self.token = token
        self.undecided = 0
        self.state: State = "acknowledged"
        self.message = ""

    def parts(self) -> list[_Part]:
        """Its lines, in order; the submission is decided when all of these are."""
        parts = [_Part(lines, self) for lines in _cut(self.lines)]
        self.undecided = len(parts)
        return parts

    def decide(self, state: State, message: str) -> None:
        """One more part is decided. What is rejected stays so; what is spooled is not acknowledged."""
        self.undecided -= 1
        if self.state == "acknowledged" or state == "rejected":
            self.state, self.message = state, self.message or message


@dataclass(frozen=True)
class _Part:
    """So much of a submission as goes into one write."""

    lines: bytes
    of: _Submission


class PointWriter:
    """Takes points from the worker's loop, and answers for each submission."""

    def __init__(
        self,
        login: Login,
        spool_dir: Path,
        *,
        called: Callable[[], None],
        patience_s: float = PATIENCE_S,
        spool_limit_bytes: int = SPOOL_LIMIT_BYTES,
    ) -> None:
        """``called`` is called, from a thread, when ``poll`` has something to say.

        What an earlier writer left in ``spool_dir`` is delivered first.
        """
        self._called = called
        self._patience_s = patience_s
        self._waiting: deque[_Submission] = deque()
        self._answers: deque[Answer] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._taken_at = 0.0
        self._roomier = False
        self._jobs_wait = False
        self._spool = Spool(spool_dir, spool_limit_bytes)
        self._database = Database(login, timeout_s=max(patience_s, SHORTEST_TIMEOUT_S))
        in_background = Database(login, timeout_s=BACKGROUND_TIMEOUT_S)
        self._drain = Drain(self._spool, in_background, removed=self._room_made)
        self._thread = threading.Thread(target=self._run, name="points", daemon=True)
        self._thread.start()

    def submit(self, lines: bytes, token: str) -> None:
        """Hand over line protocol, every line with its time in ns; ``token`` comes back with the answer."""
        with self._changed:
            if self._closing:
                raise PointsError("points cannot be written any more: the worker is stopping")
            self._waiting.append(_Submission(lines, token))
            self._changed.notify()

    def poll(self) -> list[Answer]:
        """Answers since the last call."""
        answers = []
        while self._answers:
            answers.append(self._answers.popleft())
        return answers

    def close(self, grace_s: float) -> None:
        """Write or spool what is left and deliver the spool, as far as that goes within ``grace_s``.

        A submission without an answer by then has none: its job is not final, and will be run again.
        """
        deadline = time.monotonic() + grace_s
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(grace_s)
        self._drain.close(max(deadline - time.monotonic(), 0.0))

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while parts := self._take():
            while parts:
                try:
                    self._deliver(parts)
                except Exception:
                    # Whatever it is, nothing may be lost by giving up.
                    log.exception("points: cannot be written, trying again")
                if parts and not self._wait_for_room():
                    return
        self._database.close()

    def _take(self) -> deque[_Part]:
        """Wait for submissions and take about a batch of them; empty when there will be none."""
        parts: deque[_Part] = deque()
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
        time.sleep(max(self._taken_at + GATHER_S - time.monotonic(), 0.0))
        self._taken_at = time.monotonic()
        with self._changed:
            while self._waiting and (not parts or size + len(self._waiting[0].lines) <= BATCH_BYTES):
                submission = self._waiting.popleft()
                size += len(submission.lines)
                parts.extend(submission.parts())
        return parts

    def _deliver(self, parts: deque[_Part]) -> None:
        """Write parts, or else spool them; those for which neither was possible stay in ``parts``."""
        if not self._spool:
            try:
                self._write(parts)
            except Away as away:
                self._drain.away(away)
        while parts and self._keep(parts):
            pass

    def _write(self, parts: deque[_Part]) -> None:
        for span, reason in sift([part.lines for part in parts], self._write_patiently):
            self._settle(parts, len(span), "rejected" if reason else "acknowledged", reason)
        self._jobs_wait = False
        self._drain.back()

    def _write_patiently(self, lines: bytes) -> None:
        """Write lines. Raises Malformed, or Away if the database is away for longer than a moment."""
        give_up_at = 0.0
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return self._database.write(lines)
            except Away as away:
                give_up_at = give_up_at or time.monotonic() + self._patience_s
                wait_s = max(away.retry_after_s, pause_s)
                if away.setting or self._closing or time.monotonic() + wait_s > give_up_at:
                    raise
            time.sleep(wait_s)
            pause_s *= 2

    def _keep(self, parts: deque[_Part]) -> bool:
        """Put as many parts on disk as go into one write; False when there is no room."""
        batch = first_batch(part.lines for part in parts)
        lines = b"".join(batch)
        if not self._spool.has_room(len(lines)):
            return self._no_room(f"the spool is full ({self._spool})")
        try:
            self._spool.add(lines)
        except OSError as error:
            return self._no_room(f"they cannot be kept on disk ({error.strerror})")
        self._jobs_wait = False
        self._settle(parts, len(batch), "spooled")
        self._drain.spooled()
        return True

    def _no_room(self, why: str) -> Literal[False]:
        if not self._jobs_wait:
            self._jobs_wait = True
            log.error("points: %s: jobs wait until the database takes them", why)
        return False

    def _settle(self, parts: deque[_Part], count: int, state: State, message: str = "") -> None:
        """The first so many parts are decided; answer for the submissions that are complete with them."""
        answered = False
        for _ in range(count):
            submission = parts.popleft().of
            submission.decide(state, message)
            if not submission.undecided:
                self._answers.append(Answer(submission.token, submission.state, submission.message))
                answered = True
        if answered:
            self._called()

    def _wait_for_room(self) -> bool:
        """Wait until something may have changed for the better; False when the worker is stopping."""
        with self._changed:
            self._roomier = False
            self._changed.wait_for(lambda: self._closing or self._roomier, ROOM_PAUSE_S)
            return not self._closing

    def _room_made(self) -> None:
        with self._changed:
            self._roomier = True
            self._changed.notify()


def _cut(lines: bytes) -> Iterator[bytes]:
    """Lines in pieces for one write each."""
    if len(lines) <= BATCH_BYTES:
        yield lines
        return
    piece: list[bytes] = []
    size = 0
    for line in whole_lines(lines):
        if piece and size + len(line) > BATCH_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield b"".join(piece)


def open_writer(login: Login, spool_dir: Path, *, called: Callable[[], None]) -> PointWriter | None:
    """A writer, unless no database is configured."""
    return PointWriter(login, spool_dir, called=called) if login.url else None
