"""A file store that is slow or stalls: a relay that delays answers, or lets so many bytes of them through."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time


class StallingRelay:
    """Relays to a port of this machine; no answer is longer than ``limit_bytes`` until ``release``.

    Each answer, or block of one, comes ``delay_s`` later.
    """

    def __init__(self, port: int, limit_bytes: int = sys.maxsize, *, delay_s: float = 0.0) -> None:
        self._port = port
        self._limit = limit_bytes
        self._delay_s = delay_s
        self._released = threading.Event()
        self.stalled = threading.Event()
        """An answer has come to the limit."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def release(self) -> None:
        self._released.set()

    def close(self) -> None:
        self._released.set()
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._server.accept()
                theirs = socket.create_connection(("127.0.0.1", self._port))
                for relay in (self._questions, self._answers):
                    threading.Thread(target=relay, args=(ours, theirs), daemon=True).start()

    @staticmethod
    def _questions(ours: socket.socket, theirs: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := ours.recv(65536):
                theirs.sendall(block)
            theirs.shutdown(socket.SHUT_WR)

    def _answers(self, ours: socket.socket, theirs: socket.socket) -> None:
        """The limit counts anew with each pause: an answer of one connection after another."""
        with contextlib.suppress(OSError), ours, theirs:
            sent = 0
            while block := theirs.recv(4096):
                time.sleep(self._delay_s)
                sent += len(block)
                if sent > self._limit:
                    self.stalled.set()
                    self._released.wait()
                if len(block) < 4096:
                    sent = 0
                ours.sendall(block)
