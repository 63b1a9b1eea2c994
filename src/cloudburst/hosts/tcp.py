"""TCP ports of this machine."""

from __future__ import annotations

import errno
import socket

import psutil

LOOPBACK = "127.0.0.1"


def can_listen(port: int) -> bool:
    """Whether a service could listen on that port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As servers do: connections that are being closed do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


class FreePorts:
    """Ports of 127.0.0.1 that nobody listens on, never the same one twice."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def __call__(self) -> int:
        while True:
            with socket.socket() as probe:
                probe.bind((LOOPBACK, 0))
                port = int(probe.getsockname()[1])
            if port not in self._given:
                self._given.add(port)
                return port


def listener(port: int) -> int | None:
    """The pid that listens on that port; None when nobody does, or it is hidden from this user."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return connection.pid
    return None
