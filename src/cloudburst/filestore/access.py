"""Who is let in, and what is logged about each request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloudburst.filestore.tokens import Tokens

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health"})
"""What is answered without a token."""

READING = frozenset({"GET", "HEAD"})
"""Methods that change nothing."""


class Authentication:
    """Answers 401 to a request without a right token, and 403 to one that writes with the token for readers.

    Before anything else looks at the request.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self.app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            right = self._tokens.right(brought(scope))
            if right is None:
                refusal = _refusal(401, "authentication required", {"WWW-Authenticate": "Bearer"})
            elif right == "read" and scope["method"] not in READING:
                refusal = _refusal(403, "this token is for reading only")
        await (refusal or self.app)(scope, receive, send)


def _refusal(status: int, error: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"ok": False, "error": error}, status, headers)


def brought(scope: Scope) -> list[str]:
    """The tokens that the request brings, as a bearer or in its URL (old clients).

    Either is enough: HTTP libraries send an Authorization header of their own when ~/.netrc has the host.
    """
    kind, _, bearer = Headers(scope=scope).get("authorization", "").partition(" ")
    tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
    return [*tokens, bearer.strip()] if kind.lower() == "bearer" else tokens


class AccessLog:
    """Logs one line per request: client, method, path, status, bytes in and out, duration.

    The query is left out, for old clients send the token in it.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self.app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        status = bytes_in = bytes_out = 0

        async def counted_receive() -> Message:
            nonlocal bytes_in
            message = await receive()
            bytes_in += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status, bytes_out
            status = message.get("status", status)
            bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, counted_receive, counted_send)
        except asyncio.CancelledError:
            # The server stops, and this request had its time to end. It ends here: passed on, each
            # would be logged as a crash, with a traceback.
            log.info("stopped in the middle of the next request")
        finally:
            log.log(
                logging.DEBUG if scope["path"] in OPEN_PATHS else logging.INFO,
                "%s %s %s %s, %d bytes in, %d out, %.0f ms",
                (scope.get("client") or ("-",))[0],
                scope["method"],
                self._masked_path(scope),
                status or "without an answer",
                bytes_in,
                bytes_out,
                (time.monotonic() - began) * 1000,
            )

    def _masked_path(self, scope: Scope) -> str:
        # As it was sent, so that no decoded line break can forge a line; a badly quoted URL may
        # have the token in its path.
        path: str = scope["raw_path"].decode("ascii", "backslashreplace")
        return self._tokens.masked(path)
