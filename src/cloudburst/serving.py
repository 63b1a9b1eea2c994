"""HTTP services of CloudBurst's own: how they listen, run and end, the same for each of them."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Literal

import uvicorn

from cloudburst import log
from cloudburst.errors import CloudburstError, StackError

BACKLOG = 1024
GRACE_S = 1
"""After SIGTERM, requests that are under way get so long; their clients go on, or try again."""


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
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan=lifespan,
            log_config=None,
            log_level="warning",
            access_log=False,  # it writes the URL, in which old clients send the token
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    server.run(sockets=[on])


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
