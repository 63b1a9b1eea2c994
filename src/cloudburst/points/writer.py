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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from cloudburst.errors import PointsError, QueueError
from cloudburst.model import PointsWaiting
from cloudburst.points.batch import BATCH_BYTES, first_batch, sift
from cloudburst.points.database import Away, Database, Login
from cloudburst.points.drain import Drain
from cloudburst.points.parse import whole_lines
from cloudburst.points.series import Refused, SeriesLimit
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
    refused_summary: str = ""
    """Why its summary was rejected, of which the state says nothing."""
    left_out: str = ""
    """Why some of its points were left out, of which the state says nothing either."""


class _Part(NamedTuple):
    """So much of a submission as goes into one write."""

    lines: bytes
    of: _Submission
    summary: bool = False
    last: bool = False


class _Submission:
    """Lines that share a token, and what has become of them so far."""

    def __init__(self, pieces: Iterable[bytes], token: str, summary: bytes, ensemble: str) -> None:
        self.token = token
        self.ensemble = ensemble
        self.parts = self._parts(pieces, summary)
        """Its lines, in order; the submission is decided with the last."""
        self.state: State = "acknowledged"
        self.message = ""
        self.refused_summary = ""
        self.left_out = ""

    def _parts(self, pieces: Iterable[bytes], summary: bytes) -> Iterator[_Part]:
        part = None
        for lines in chain.from_iterable(map(_cut, pieces)):
            if part:
                yield part
            part = _Part(lines, self)
        if summary:
            if part:
                yield part
            part = _Part(summary, self, summary=True)
        if part:
            yield part._replace(last=True)

    def decide(self, part: _Part, state: State, message: str) -> None:
        """One more part is decided. What is rejected stays so; what is spooled is not acknowledged."""
        if part.summary and state == "rejected":
            self.refused_summary = message
        elif self.state == "acknowledged" or state == "rejected":
            self.state, self.message = state, self.message or message


class PointWriter:
    """Takes points from the worker's loop, and answers for each submission."""

    def __init__(
        self,
        login: Login,
        spool_dir: Path,
        *,
        called: Callable[[], None],
        series: SeriesLimit | None = None,
        patience_s: float = PATIENCE_S,
        spool_limit_bytes: int = SPOOL_LIMIT_BYTES,
    ) -> None:
        """``called`` is called, from a thread, when ``poll`` has something to say.

        What an earlier writer left in ``spool_dir`` is delivered first. ``series``: what keeps ensembles from
        having too many; None: nothing does.
        """
        self._called = called
        self._series = series
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

    def submit(
        self, pieces: Iterable[bytes], token: str, *, summary: bytes = b"", ensemble: str = ""
    ) -> None:
        """Hand over line protocol, every line with its time in ns; ``token`` comes back with the answer.

        ``pieces`` are of whole lines, and are taken as they are written, from a thread. ``summary`` is a line
        that may be refused without harm. There must be something. ``ensemble``: whose series they are.
        """
        with self._changed:
            if self._closing:
                raise PointsError("points cannot be written any more: the worker is stopping")
            self._waiting.append(_Submission(pieces, token, summary, ensemble))
            self._changed.notify()

    def poll(self) -> list[Answer]:
        """Answers since the last call."""
        answers = []
        while self._answers:
            answers.append(self._answers.popleft())
        return answers

    def waiting(self) -> PointsWaiting | None:
        """What the database has not taken for longer than a moment."""
        points, since = self._spool.waiting()
        return PointsWaiting(points, since, self._drain.reason) if points else None

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
            if self._series is not None:
                parts = self._sift(parts, self._series)
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
        """Wait for submissions and take about a batch of them; empty when there will be none.

        Of large ones a part at a time: nobody waits for the whole of somebody else's.
        """
        parts: deque[_Part] = deque()
        size = 0
        while not parts:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
            if not self._waiting:
                break
            time.sleep(max(self._taken_at + GATHER_S - time.monotonic(), 0.0))
            self._taken_at = time.monotonic()
            while self._waiting and size < BATCH_BYTES:
                submission = self._waiting.popleft()
                part = self._next_of(submission)
                if part is not None:
                    parts.append(part)
                    size += len(part.lines)
                    if not part.last:
                        self._waiting.append(submission)
        return parts

    def _next_of(self, submission: _Submission) -> _Part | None:
        """Its next part; None when the rest of it cannot be read, which is answered for."""
        try:
            return next(submission.parts)
        except OSError as error:
            message = f"they cannot be read again from this node's disk ({error})"
            self._answers.append(Answer(submission.token, "rejected", message))
            self._called()
            return None

    def _sift(self, parts: deque[_Part], series: SeriesLimit) -> deque[_Part]:
        """Parts without the lines of series that are too many; none if that cannot be known before the end.

        While Redis is away all wait: none of these jobs could be recorded.
        """
        lots: dict[str, list[bytes]] = {}
        for part in parts:
            if part.of.ensemble and not part.summary:
                lots.setdefault(part.of.ensemble, []).append(part.lines)
        lines = {ensemble: b"".join(lot) for ensemble, lot in lots.items()}
        while True:
            try:
                refused = series.refused(lines)
                break
            except QueueError as error:
                log.debug("points: %s", error)
                if not self._wait_for_room():
                    return deque()
        return deque(_without(part, refused) for part in parts) if refused else parts

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
        if not lines:  # all of them were left out
            return None
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
            if lines:
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
            part = parts.popleft()
            submission = part.of
            submission.decide(part, state, message)
            if part.last:
                answer = Answer(
                    submission.token,
                    submission.state,
                    submission.message,
                    submission.refused_summary,
                    submission.left_out,
                )
                self._answers.append(answer)
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


def _without(part: _Part, refused: Mapping[str, Refused]) -> _Part:
    """What may be written of a part."""
    beyond = refused.get(part.of.ensemble)
    if beyond is None or part.summary:
        return part
    left = beyond.without(part.lines)
    if left != part.lines:
        part.of.left_out = beyond.why
    return part._replace(lines=left)


def _cut(lines: bytes) -> Iterator[bytes]:
    """Lines in pieces for one write each."""
    if not lines.endswith(b"\n"):
        lines += b"\n"
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


def open_writer(
    login: Login,
    spool_dir: Path,
    *,
    called: Callable[[], None],
    series: SeriesLimit | None = None,
    spool_limit_bytes: int = SPOOL_LIMIT_BYTES,
) -> PointWriter | None:
    """A writer, unless no database is configured."""
    if not login.url:
        return None
    return PointWriter(login, spool_dir, called=called, series=series, spool_limit_bytes=spool_limit_bytes)
