"""What the local write endpoint answers when it does not do what was asked: InfluxDB v2's JSON errors."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from cloudburst.errors import PointsError
from cloudburst.points.parse import LineError

log = logging.getLogger(__name__)

CODES = {
    400: "invalid",
    401: "unauthorized",
    404: "not found",
    405: "method not allowed",
    408: "invalid",
    413: "request too large",
    415: "invalid",
    422: "unprocessable entity",
    501: "not implemented",
    503: "unavailable",
}
"""InfluxDB's word for each status; the rest are ``internal error``."""


class Refusal(PointsError):
    """A request is not answered with what it asked for."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def answer(
    status: int, message: str, headers: Mapping[str, str] | None = None, **facts: object
) -> JSONResponse:
    """``{"code": ..., "message": ...}`` as InfluxDB v2 writes it."""
    code = CODES.get(status, "internal error")
    return JSONResponse({"code": code, "message": message, **facts}, status, headers)


def _in_one_line(error: Exception) -> str:
    """It quotes what was sent, and no line of the log must be forged by that."""
    return " ".join(str(error).splitlines())


def _refused(request: Request, error: Refusal) -> Response:
    log.info("%s %s: %d %s", request.method, request.url.path, error.status, _in_one_line(error))
    return answer(error.status, str(error), error.headers)


def _malformed(request: Request, error: LineError) -> Response:
    log.info("%s %s: 400 %s", request.method, request.url.path, _in_one_line(error))
    return answer(400, str(error), line=error.line, err=error.reason)


def _no_such_address(request: Request, error: HTTPException) -> Response:
    return answer(
        error.status_code,
        f"{request.method} {request.url.path}: of InfluxDB, the local stack has writing points, a part "
        "of InfluxQL, and looking up its bucket, which nothing changes",
        error.headers,
    )


def _cut_off(request: Request, error: Exception) -> Response:
    # Nobody is there to read it; 499 is what nginx writes into its log for this.
    return answer(499, "the client closed the connection")


def _disk_failed(request: Request, error: Exception) -> Response:
    # Clients try again on 503, and a full disk or a locked file may be mended meanwhile.
    log.error("%s %s: cannot store points: %s", request.method, request.url.path, error, exc_info=error)
    return answer(503, f"the database of points cannot be written: {error}", {"Retry-After": "2"})


def _failed(request: Request, error: Exception) -> Response:
    # The traceback is logged by the server, to which Starlette passes the error on.
    return answer(500, f"the write endpoint failed ({type(error).__name__}); its log says more")


BY_ERROR: dict[Any, Callable[[Request, Any], Response]] = {
    Refusal: _refused,
    LineError: _malformed,
    HTTPException: _no_such_address,
    ClientDisconnect: _cut_off,
    sqlite3.DatabaseError: _disk_failed,
    Exception: _failed,
}
"""For Starlette: which answer each kind of error becomes."""
