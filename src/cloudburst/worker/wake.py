"""Things that make the worker's loop go round: a wake-up call between threads, and a bell at the queue."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time

import redis

log = logging.getLogger(__name__)


class Wake:
    """A socket that becomes readable when another thread or a signal calls."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._ours.setblocking(False)
        self.theirs.setblocking(False)

    def fileno(self) -> int:
        return self._ours.fileno()

    def call(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # full is as good as called; closed: nobody waits
            self.theirs.send(b"!")

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._ours.recv(4096):
                pass

    def close(self) -> None:
        self._ours.close()
        self.theirs.close()


class Bell:
    """Calls when the queue has a job, without taking it: BLMOVE from the head to the head changes nothing.

    It waits only while it is armed, in a thread of its own, and rings once for each arming.
    """

    WAIT_S = 4
    PAUSE_S = 0.5

    def __init__(self, client: redis.Redis, queue: str, wake: Wake) -> None:
        self._redis = client
        self._key = f"rq:queue:{queue}"
        self._wake = wake
        self._armed = threading.Event()
        self._closed = False
        self.rang = False
        threading.Thread(target=self._listen, name="bell", daemon=True).start()

    def arm(self) -> None:
        """Ring when there is a job, at once if there is one already."""
        self.rang = False
        self._armed.set()

    def close(self) -> None:
        self._closed = True
        self._armed.set()

    def _listen(self) -> None:
        while not self._closed:
            self._armed.wait()
            try:
                found = bool(self._redis.blmove(self._key, self._key, self.WAIT_S, "LEFT", "LEFT"))
            except redis.RedisError as error:
                log.debug("bell: %s", error)
                time.sleep(self.PAUSE_S)
                found = self._looked()
            if found and not self._closed:
                self._armed.clear()
                self.rang = True
                self._wake.call()

    def _looked(self) -> bool:
        """Whether there is a job: for a Redis whose memory is full, which refuses BLMOVE."""
        try:
            return bool(self._redis.llen(self._key))
        except redis.RedisError:
            return False
