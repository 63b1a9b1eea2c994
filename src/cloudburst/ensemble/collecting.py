"""A client that collects results before its stack ends by itself: the keeper waits for it, for a while."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import redis

from cloudburst.ensemble.connection import Connection
from cloudburst.errors import QueueError
from cloudburst.rqwire import ending
from cloudburst.rqwire.ending import Announcement, sentence

if TYPE_CHECKING:
    from cloudburst.ensemble.stack import Stack

log = logging.getLogger(__name__)

EVERY_S = 5.0

GONE_S = 30.0
"""A stack that was about to end, and has not answered for so long, has ended."""


class Collecting:
    """Tells the keeper of a stack that this client is there, from ``with`` on, and what it has.

    Where there is no keeper, nothing happens. When the block ends without an error while the stack ends, all
    results are taken to be collected.
    """

    def __init__(self, queue: Connection, every_s: float = EVERY_S) -> None:
        self._queue = queue
        self._every_s = every_s
        self._name = ending.new_watcher(socket.gethostname())
        self._said: Announcement | None = None
        self._collected = ""
        self._there = False
        self._heard = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._stay, name="collecting", daemon=True)

    def __enter__(self) -> Collecting:
        self._speak()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        if error is None and self.ends:
            self.collected()
        elif self._there and not self._collected:
            self._quietly(lambda: ending.leave(self._queue.redis, self._name))

    @property
    def ends(self) -> bool:
        """Whether no job runs any more, nor will: all results that there will ever be are there."""
        return self._said is not None and self._said.stage in {"collecting", "removing"}

    @property
    def announcement(self) -> Announcement | None:
        """What the keeper has last said; None without one."""
        return self._said

    def collected(self) -> None:
        """Say that this client has everything, for the end that was announced: it need not be waited for."""
        if self._said is not None and self._said.name != self._collected:
            self._collected = self._said.name
            self._speak()

    @property
    def has_everything(self) -> bool:
        """Whether that was said for the end that was announced."""
        return self._said is not None and bool(self._collected) and self._said.name == self._collected

    @property
    def silent_s(self) -> float:
        """Seconds since the stack last answered."""
        return time.monotonic() - self._heard

    def _stay(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._speak()

    def _speak(self) -> None:
        self._quietly(self._round)

    def _round(self) -> None:
        client = self._queue.redis
        self._said = ending.read(client) or self._said
        self._heard = time.monotonic()
        if self._said is not None:
            ending.watch(client, self._name, self._collected)
            self._there = True

    def _quietly(self, call: Callable[[], None]) -> None:
        """Redis may be away, or older than this: then nobody waits for us, and our own work goes on."""
        try:
            self._queue.once(call)
        except (QueueError, redis.RedisError) as error:
            log.debug("collecting: %s", error)


class Folder:
    """A directory with a Parquet file per ensemble of a stack, named by its id."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory
        self._saved: dict[str, int] = {}

    def save(self, *, all_of_them: bool) -> list[Path]:
        """Write those that have new records: of ensembles that are complete, or all; the files written.

        Raises QueueError, and OSError when the directory cannot be written.
        """
        written = []
        for ensemble in self._stack.ensembles():
            status = ensemble.status()
            if not status.ended or not (all_of_them or status.complete):
                continue
            path = self._directory / f"{ensemble.id}.parquet"
            if self._saved.get(ensemble.id) == status.ended and path.exists():
                continue
            self._directory.mkdir(parents=True, exist_ok=True)
            ensemble.results().to_parquet(path)
            self._saved[ensemble.id] = status.ended
            written.append(path)
        return written


def watch(
    stack: Stack,
    collecting: Collecting,
    directory: Path,
    say: Callable[[str], None],
    every_s: float = EVERY_S,
    *,
    gone_s: float = GONE_S,
) -> None:
    """Save results as ensembles are done, and everything before the stack ends; returns when it has ended.

    Raises OSError when the directory cannot be written, QueueError when the stack is away for another reason.
    """
    folder = Folder(stack, directory)
    told = ""
    if collecting.announcement is None:
        say("the stack does not end by itself: results are saved as ensembles are done")
    while True:
        said = collecting.announcement
        if said and said.stage != told:
            say(f"the stack {sentence(said, time.time())}")
            told = said.stage
        if collecting.has_everything:
            # It is not asked any more: a machine that is gone does not even refuse.
            if told == "removing" or collecting.silent_s > gone_s:
                return
        else:
            ends = collecting.ends  # asked once: what is told meanwhile was not heeded in saving
            for path in folder.save(all_of_them=ends):
                say(f"{path} is written")
            if ends:
                collecting.collected()
                say(f"all results are in {directory}")
        time.sleep(every_s)
