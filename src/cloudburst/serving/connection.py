"""One connection of a client to a service: what it may cost before anybody knows whose it is.

The HTTP itself is h11's. It bounds the head of a request, of a chunk, and what follows the last chunk; and
it reads the body of a request that asks for another protocol (``Connection: Upgrade``) like any other.
httptools bounds nothing, and leaves such a body out: a PUT by ``curl --http2`` was answered with 200, and an
empty file was stored.
"""

from __future__ import annotations

import asyncio
import sys

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from cloudburst.serving.requests import refusal

HEAD_LIMIT_BYTES = 32 * 1024
"""Of a request line with all headers: a tenth of it is enough for the longest name with each byte as %XX."""

HEAD_S = 30.0
"""Seconds from the connection until the head of the first request is complete."""

KEPT_S = 75
"""Seconds from an answer until the head of the next request is complete."""

STALL_S = 120.0
"""Seconds after which a client that takes nothing of its answer is cut off."""

CONNECTIONS = 1000
"""Connections at a time. Beyond them, an idle one is closed: the one with the least time left."""

CHECK_S = 1.0
"""How often each connection is looked at."""


class Connection(H11Protocol):
    """uvicorn's protocol, with limits of time and number."""

    _watcher: asyncio.TimerHandle | None = None
    _head_by: float | None = None
    """When the next head has to be complete; None while a request is under way."""
    _unsent_bytes = 0
    _moved_at = 0.0

    # What asyncio and uvicorn call.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_by = self.loop.time() + HEAD_S
        self._watch()
        if len(self.connections) > CONNECTIONS:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watcher:
            self._watcher.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle and not self.cycle.response_complete:
            self._head_by = None

    def on_response_complete(self) -> None:
        # First, as the next request may be here already, and begin in there.
        self._head_by = self.loop.time() + KEPT_S
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong with the request, in the words of the file store and in those of InfluxDB."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()  # its answer was given, or is being sent
            return
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431:
            msg = f"the head of the request is larger than {HEAD_LIMIT_BYTES} bytes"
        elif error:
            msg = f"no proper HTTP: {error}"
        answer = refusal(status, msg)
        events = (
            h11.Response(status_code=status, headers=answer.raw_headers),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        )
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _get_upgrade(self) -> None:
        """No other protocol is spoken here, so the request is answered in this one (RFC 9110, 7.8)."""

    def _watch(self) -> None:
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent_bytes:
            self._unsent_bytes, self._moved_at = unsent, now
        if now - self._moved_at > STALL_S:
            self.transport.abort()
        elif self._head_by is not None and now > self._head_by:
            self.transport.close()
        self._watcher = self.loop.call_later(CHECK_S, self._watch)

    def _make_room(self) -> None:
        waiting = {
            one: one._head_by for one in self.connections if isinstance(one, Connection) and one._head_by
        }
        if waiting:
            first = min(waiting, key=lambda one: waiting[one])
            self.connections.discard(first)
            first.transport.abort()
