"""Requests that two readers could understand differently are refused before anybody acts on them."""

from __future__ import annotations

from collections import Counter

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

SINGLE = frozenset(
    {b"authorization", b"content-encoding", b"content-range", b"content-type", b"range", b"x-content-sha256"}
)
"""Headers of which a request has one at most; h11 sees to Host and Content-Length."""


class Unambiguous:
    """Passes on requests that mean one thing. Of a whole URL (RFC 9112, 3.2.2) the path counts."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem = _problem(Counter(name for name, _ in scope["headers"]))
        if problem:
            await refusal(400, problem)(scope, receive, send)
            return
        if scope["path"].startswith(("http://", "https://")):
            for name, slash in (("path", "/"), ("raw_path", b"/")):
                scope[name] = (
                    slash + scope[name].split(slash, 3)[3] if scope[name].count(slash) > 2 else slash
                )
        await self.app(scope, receive, send)


def refusal(status: int, message: str) -> JSONResponse:
    """In the words of the file store and of InfluxDB, so that the clients of every service can read it."""
    return JSONResponse(
        {"ok": False, "error": message, "code": "invalid", "message": message},
        status,
        {"Connection": "close"},
    )


def _problem(count: Counter[bytes]) -> str:
    if count[b"content-length"] and count[b"transfer-encoding"]:
        return "the request has both Content-Length and Transfer-Encoding: send one of them"
    twice = next((name.decode() for name in SINGLE if count[name] > 1), "")
    return f"the request has the header {twice} more than once" if twice else ""
