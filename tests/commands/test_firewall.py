"""The script that a node runs: what it lets in."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from cloudburst.commands import firewall

NODES = ["10.0.0.10", "10.0.0.9", "2001:db8::9"]


def test_the_ports_between_nodes_are_for_nodes() -> None:
    script = firewall.script(NODES)

    for protocol, port in (("tcp", 2377), ("tcp", 7946), ("udp", 7946), ("udp", 4789), ("tcp", 5000)):
        let_in = [
            f"-A CLOUDBURST -s {node} -p {protocol} --dport {port} -j ACCEPT"
            for node in ("10.0.0.9", "10.0.0.10")
        ]
        closed = f"-A CLOUDBURST -p {protocol} --dport {port} -j DROP"
        assert "\n".join([*let_in, closed]) in script
        assert f"-A CLOUDBURST -s 2001:db8::9 -p {protocol} --dport {port} -j ACCEPT\n{closed}" in script


def test_containers_do_not_reach_the_metadata_of_the_cloud() -> None:
    assert "-A CLOUDBURST-CONTAINERS -d 169.254.169.254 -j DROP\n" in firewall.script(NODES)


def test_the_same_nodes_in_another_order_are_the_same_script() -> None:
    assert firewall.script(NODES) == firewall.script(NODES[::-1])


@pytest.mark.parametrize("systemd", [True, False])
def test_scripts_are_clean(systemd: bool) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = [firewall.script(NODES)]
    if not systemd:
        scripts.append(firewall.boot_file(systemd=False)[1])
    for argv in (firewall.apply(systemd=systemd).argv, firewall.remove(systemd=systemd).argv):
        scripts.append(f"#!/bin/sh\n{argv[-1]}\n")
    for script in scripts:
        done = subprocess.run(
            ["shellcheck", "-S", "warning", "-"], input=script, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout
