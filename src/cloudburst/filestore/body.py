"""The body of a request, as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request

from cloudburst.errors import FileStoreError
from cloudburst.filestore import space
from cloudburst.filestore.incoming import too_large
from cloudburst.filestore.multipart import OVERHEAD_BYTES
from cloudburst.filestore.storage import Storage

IDLE_LIMIT_S = 120.0
"""A client that sends nothing for so long has vanished: without data on the way, TCP never tells."""


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in chunks as the network brings them; FileStoreError 408 when the client falls silent."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_LIMIT_S):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise FileStoreError(f"nothing arrived for {IDLE_LIMIT_S:.0f} s: send it again", 408) from None
        if chunk is None:
            return
        if chunk:
            yield chunk


def announced_bytes(request: Request) -> int | None:
    """``Content-Length``; None for a body sent in chunks."""
    header = request.headers.get("content-length", "")
    return int(header) if header.isdecimal() else None


def check_announced(request: Request, storage: Storage) -> None:
    """Refuse at once what is known not to fit: FileStoreError with status 413 or 507."""
    announced = announced_bytes(request) or 0
    if announced > storage.limit_bytes + OVERHEAD_BYTES:
        raise too_large(storage.limit_bytes)
    space.check(storage.root, announced)
