"""Ports of this machine."""

from __future__ import annotations

import os
import socket

from cloudburst.hosts.tcp import FreePorts, can_listen, listener


def test_a_port_that_is_listened_on_is_in_use_and_by_whom_is_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        assert not can_listen(port)
        assert listener(port) == os.getpid()

    assert can_listen(port)
    assert listener(port) is None


def test_a_port_that_is_listened_on_at_all_addresses_is_in_use() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert not can_listen(server.getsockname()[1])


def test_free_ports_are_free_and_never_given_twice() -> None:
    free = FreePorts()

    ports = [free() for _ in range(50)]

    assert len(set(ports)) == 50
    assert all(can_listen(port) for port in ports)
