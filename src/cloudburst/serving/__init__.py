"""HTTP services of CloudBurst's own: how they listen, run and end, the same for each of them."""

from __future__ import annotations

import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Literal

import uvicorn

from cloudburst import log
from cloudburst.errors import CloudburstError, StackError
from cloudburst.serving.connection import HEAD_LIMIT_BYTES, KEPT_S, Connection
from cloudburst.serving.requests import Unambiguous

BACKLOG = 1024
GRACE_S = 1
"""After SIGTERM, requests that are under way get so long; their clients go on, or try again."""

FILES = 8192
"""Open files and connections, where the system allows that many; what it gives by itself is often 1,024."""


def listener(what: str, host: str, port: int, variable: str) -> socket.socket:
    """A socket that listens. StackError names the service and the variable with its port if that is taken."""
    try:
        family, kind, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        # At once, for as long as nobody listens another process may bind the same port.
        found.listen(BACKLOG)
        return found
    except OSError as error:
        raise StackError(
            f"{what} cannot listen on {host}:{port} ({error.strerror}): "
            f"stop what uses that port, or set {variable}"
        ) from error


def run(app: Any, on: socket.socket, *, lifespan: Literal["on", "off"]) -> None:
    """Serve an ASGI application until a signal ends it (SystemExit)."""
    _allow_files()
    uvicorn.Server(configured(app, lifespan=lifespan)).run(sockets=[on])


def configured(app: Any, *, lifespan: Literal["on", "off"]) -> uvicorn.Config:
    """How each service is served."""
    return uvicorn.Config(
        Unambiguous(app),
        http=Connection,
        h11_max_incomplete_event_size=HEAD_LIMIT_BYTES,
        ws="none",
        lifespan=lifespan,
        log_config=None,
        log_level="warning",
        access_log=False,  # it writes the URL, in which old clients send the token
        server_header=False,
        timeout_keep_alive=KEPT_S,
        timeout_graceful_shutdown=GRACE_S,
    )


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main(serve: Callable[[], None]) -> None:
    """Entry point of a service: logs to stderr, ends with 0 on a signal, says errors in one line."""
    log.configure()
    # uvicorn ends its requests on a signal and then raises it again, for this to end the process with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        serve()
    except CloudburstError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
