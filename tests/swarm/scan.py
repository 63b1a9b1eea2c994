"""Looking at machines from outside: which ports answer."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence

AT_ONCE = 500
"""Fewer than the files that a process may usually have open."""

SILENCE_S = 2.0
"""A port that has not answered until then is one whose packets are dropped."""


def open_ports(address: str) -> set[int]:
    """All TCP ports there that take connections, of all 65,535."""
    every = range(1, 65536)
    return set().union(*(_open(address, every[at : at + AT_ONCE]) for at in range(0, len(every), AT_ONCE)))


def _open(address: str, ports: Sequence[int]) -> set[int]:
    waiting: dict[int, tuple[socket.socket, int]] = {}
    poll = select.poll()
    found = set()
    deadline = time.monotonic() + SILENCE_S
    for port in ports:
        knock = socket.socket()
        knock.setblocking(False)
        knock.connect_ex((address, port))
        waiting[knock.fileno()] = knock, port
        poll.register(knock, select.POLLOUT)
    while waiting and (left_s := deadline - time.monotonic()) > 0:
        for file, _ in poll.poll(left_s * 1000):
            knock, port = waiting.pop(file)
            if knock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.add(port)
            poll.unregister(file)
            knock.close()
    for knock, _ in waiting.values():
        knock.close()
    return found
