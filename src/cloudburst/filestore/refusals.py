"""Every error as JSON: ``{"ok": false, "error": "..."}``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from cloudburst.errors import FileStoreError
from cloudburst.filestore import space
from cloudburst.filestore.headers import NoSuchPart
from cloudburst.filestore.partials import WrongOffset

log = logging.getLogger(__name__)


def refusal(status: int, error: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that failed."""
    return JSONResponse({"ok": False, "error": error}, status, headers)


def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, WrongOffset):
        # Closed, for otherwise a client goes on sending the rest of a large file, to be thrown away.
        return refusal(error.status, str(error), {"Upload-Offset": str(error.offset), "Connection": "close"})
    if isinstance(error, NoSuchPart):
        return refusal(error.status, str(error), {"Content-Range": f"bytes */{error.total}"})
    if isinstance(error, FileStoreError):
        return refusal(error.status, str(error))
    return _failed(request, error)


def _no_such_address(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _failed(request, error)
    text = f"{request.method} {request.url.path}: {error.detail}; files are at /files/<name>"
    return refusal(error.status_code, text, error.headers)


def _cut_off(request: Request, error: Exception) -> Response:
    # Nobody is there to read it; 499 is what nginx writes into its log for this.
    return refusal(499, "the client closed the connection")


def _disk_refused(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError) and space.is_full(error):
        return _refused(request, space.disk_full("the system refused to write more"))
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return refusal(500, f"the file store's disk failed ({error}); its log says more")


def _failed(request: Request, error: Exception) -> Response:
    # The traceback is logged by the server, to which Starlette passes the error on.
    return refusal(500, f"the file store failed ({type(error).__name__}); its log says more")


BY_ERROR: dict[Any, Callable[[Request, Exception], Response]] = {
    FileStoreError: _refused,
    HTTPException: _no_such_address,
    ClientDisconnect: _cut_off,
    OSError: _disk_refused,
    Exception: _failed,
}
"""For Starlette: which answer each kind of error becomes."""
