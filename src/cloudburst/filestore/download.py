"""The answer that carries a stored file, or a part of it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from email.utils import formatdate
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cloudburst.filestore import headers
from cloudburst.filestore.blocks import BLOCK_BYTES, in_thread
from cloudburst.filestore.headers import Part

log = logging.getLogger(__name__)


class Download(Response):
    """Sends ``part`` of ``file`` in blocks and closes the file."""

    def __init__(self, file: BinaryIO, part: Part, status_code: int, about: Mapping[str, str]) -> None:
        super().__init__(None, status_code, {**about, "Content-Length": str(part.size)})
        self._file = file
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            await self._send_blocks(send, gone)
        finally:
            gone.cancel()
            self._file.close()

    async def _send_blocks(self, send: Send, gone: asyncio.Future[None]) -> None:
        position, stop = self._part.start, self._part.stop
        descriptor = self._file.fileno()
        while position < stop:
            block = await in_thread(os.pread, descriptor, min(BLOCK_BYTES, stop - position), position)
            if not block:
                # Ending here lets the server cut the connection, which tells the client.
                log.warning("a file was shortened while it was being sent")
                return
            if gone.done():
                return
            position += len(block)
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def answer_with(file: BinaryIO, sha256: str, request: Request) -> Response:
    """The answer to GET or HEAD for the open ``file``; if it is a Download, that closes the file."""
    status = os.fstat(file.fileno())
    etag = f'"{sha256}"'
    about = {
        "ETag": etag,
        "Last-Modified": formatdate(status.st_mtime, usegmt=True),
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",
        # Whatever was uploaded, no browser shall run it as a page of this site.
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
    }
    asked = request.headers
    if headers.already_known(asked.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=about)
    if request.method == "HEAD":
        return Response(headers={**about, "Content-Length": str(status.st_size)})
    part = None
    if "range" in asked and headers.same_version(asked.get("if-range", etag), etag):
        part = headers.requested_part(asked["range"], status.st_size)
    if part is None:
        return Download(file, Part(0, status.st_size, status.st_size), 200, about)
    return Download(file, part, 206, {**about, "Content-Range": str(part)})


async def _until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection, which ``send`` does not tell."""
    while (await receive())["type"] != "http.disconnect":
        pass
