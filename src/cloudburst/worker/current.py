"""Which worker.zip is current: asked of the file store in a thread, never for a time before the question."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from cloudburst import names
from cloudburst.errors import FileStoreError
from cloudburst.filestore.client import FileStore
from cloudburst.worker.once import out_of_reach
from cloudburst.worker.runtime import Unusable

log = logging.getLogger(__name__)

AGAIN_S = 2.0
"""A file store that does not answer is asked again after so long."""


class Current:
    """Answers at once what it knows, asks for what it does not, and calls when the answer is there.

    A job that was enqueued after a new worker.zip was stored must not run the old code. So an answer is good
    only for what had been claimed before it was asked for; one question serves all such claims.
    """

    def __init__(self, store: FileStore, *, called: Callable[[], None]) -> None:
        self._store = store
        self._called = called
        self._changed = threading.Condition()
        self._wanted = False
        self._closed = False
        self._asking_since = 0.0
        self._asked_at = 0.0
        self._answer: str | Unusable | None = None
        self._away = False
        threading.Thread(target=self._serve, name="current", daemon=True).start()

    def digest(self, since: float) -> str | Unusable | None:
        """SHA-256 of the worker.zip that was current at ``since`` (monotonic seconds) or later.

        None: the file store is being asked.
        """
        with self._changed:
            if self._answer is not None and self._asked_at >= since:
                return self._answer
            if self._asking_since < since or not self._asking_since:
                self._wanted = True
                self._changed.notify()
            return None

    def asks(self, since: float) -> bool:
        """Whether an answer that is good for ``since`` is on its way: the file store is there, but slow."""
        with self._changed:
            return not self._away and (self._answer is None or self._asked_at < since)

    def close(self) -> None:
        """Ask no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                self._wanted = False
                asked_at = self._asking_since = time.monotonic()
            answer = self._ask()
            with self._changed:
                self._asking_since = 0.0
                self._away = answer is None
                if answer is not None:
                    self._asked_at, self._answer = asked_at, answer
            self._called()
            if answer is None:
                with self._changed:
                    self._wanted = True
                    self._changed.wait_for(lambda: self._closed, AGAIN_S)

    def _ask(self) -> str | Unusable | None:
        try:
            found = self._store.etag(names.PAYLOAD_NAME)
        except FileStoreError as error:
            log.warning("cannot ask for the current %s: %s", names.PAYLOAD_NAME, error)
            return None if out_of_reach(error) else Unusable(str(error), "")
        if found is None:
            return Unusable(f"the file store has no {names.PAYLOAD_NAME}: POST it to /upload first", "")
        return found
