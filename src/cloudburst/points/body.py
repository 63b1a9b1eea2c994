"""Bodies of writes: read, unpacked, and never more of them in memory than allowed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

from starlette.requests import Request

from cloudburst.points.refusals import Refusal

LIMIT_BYTES = 50_000_000
"""Largest body, unpacked; that of InfluxDB Cloud."""

IN_FLIGHT_LIMIT_BYTES = 4 * LIMIT_BYTES
"""What all writes that are under way may hold together."""

IDLE_LIMIT_S = 120.0
"""Seconds without data after which a client counts as gone."""


class Bodies:
    """Reads bodies, and knows how much the ones under way hold."""

    def __init__(self) -> None:
        self._held = 0

    def reading(self, request: Request) -> Body:
        """To be used as a context manager; the memory counts as held until its end."""
        return Body(request, self)

    def hold(self, size: int) -> None:
        """Count memory; Refusal 503 when it is too much (clients come back later), held nevertheless."""
        self._held += size
        if self._held > IN_FLIGHT_LIMIT_BYTES:
            raise Refusal(503, "too many large writes at once: try again later", {"Retry-After": "1"})

    def let_go(self, size: int) -> None:
        self._held -= size


class Body:
    """The body of one request."""

    def __init__(self, request: Request, bodies: Bodies) -> None:
        self._request = request
        self._bodies = bodies
        self._size = 0
        self._packed_size = 0

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.let_go(self._size)

    async def contents(self) -> bytes:
        """The body, unpacked if it is gzip. Refusal 400, 408, 413, 415 or 503."""
        pieces: list[bytes] = []
        encoding = self._request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip", ""}:
            raise Refusal(415, f"Content-Encoding {encoding!r}: send gzip, or leave it out")
        unpack = Gzip() if encoding == "gzip" else None
        chunks = _arriving(self._request.stream())
        try:
            async for chunk in chunks:
                self._arrived(len(chunk))
                for piece in unpack.pieces(chunk) if unpack else (chunk,):
                    self._take(len(piece))
                    pieces.append(piece)
        except Refusal:
            pieces.clear()
            await _skip(chunks)
            raise
        if unpack:
            unpack.check_end()
        return b"".join(pieces)

    def _arrived(self, size: int) -> None:
        """Packed, a body may be endless though it holds nothing."""
        self._packed_size += size
        if self._packed_size > LIMIT_BYTES:
            raise Refusal(413, f"the body is larger than {LIMIT_BYTES} bytes: send smaller batches")

    def _take(self, size: int) -> None:
        self._size += size
        self._bodies.hold(size)
        if self._size > LIMIT_BYTES:
            raise Refusal(413, f"the body is larger than {LIMIT_BYTES} bytes unpacked: send smaller batches")


def as_text(body: bytes) -> str:
    """What a body says; Refusal 400 if it is no text."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body is not UTF-8 ({error.reason} at byte {error.start})") from None


async def _arriving(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a body. A client that vanishes in its middle must not hold its memory for ever."""
    while True:
        try:
            async with asyncio.timeout(IDLE_LIMIT_S):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise Refusal(408, f"nothing arrived for {IDLE_LIMIT_S:.0f} s: send it again") from None
        if chunk is None:
            return
        yield chunk


async def _skip(chunks: AsyncIterator[bytes]) -> None:
    """Read on, within reason: a client that is still sending would not see the answer."""
    skipped = 0
    async for chunk in chunks:
        skipped += len(chunk)
        if skipped > IN_FLIGHT_LIMIT_BYTES:
            return


class Gzip:
    """Unpacks gzip a little at a time, since a small body may hold a very large text.

    Several members one after the other are one text (RFC 1952, 2.2).
    """

    _STEP = 1 << 20
    _MEMBERS_LIMIT = 10_000
    """Each takes as long as some kilobytes, even if it holds nothing."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._members = 1

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        try:
            while chunk:
                if self._member.eof:
                    self._members += 1
                    if self._members > self._MEMBERS_LIMIT:
                        raise Refusal(400, f"the body has more than {self._MEMBERS_LIMIT} gzip members")
                    self._member = zlib.decompressobj(wbits=31)
                yield self._member.decompress(chunk, self._STEP)
                chunk = self._member.unconsumed_tail or self._member.unused_data
        except zlib.error as error:
            raise Refusal(400, f"the body is not gzip as its Content-Encoding says ({error})") from None

    def check_end(self) -> None:
        if not self._member.eof:
            raise Refusal(400, "the body ends in the middle of its gzip data")
