"""What a node lets in: a script that is kept there, run now and at each boot."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from cloudburst.commands.command import Command

SCRIPT = "/usr/local/lib/cloudburst/firewall"
SYSTEMD_UNIT = "/etc/systemd/system/cloudburst-firewall.service"
INIT_SCRIPT = "/etc/init.d/cloudburst-firewall"

BETWEEN_NODES = (("tcp", 2377), ("tcp", 7946), ("udp", 7946), ("udp", 4789), ("tcp", 5000))
"""The swarm's own ports and the registry's, from nobody but the stack's nodes."""

METADATA = "169.254.169.254"
"""Where clouds tell a machine about itself, with what it was started with: nothing for containers."""


def script(nodes: Sequence[str]) -> str:
    """The script; ``nodes`` are the addresses of all nodes. It may be run at any time, and again."""
    ipv4 = sorted((node for node in nodes if ipaddress.ip_address(node).version == 4), key=_order)
    ipv6 = sorted((node for node in nodes if ipaddress.ip_address(node).version == 6), key=_order)
    lines = [
        "#!/bin/sh",
        "# Written by CloudBurst: the ports between its nodes are closed to everybody else.",
        "set -eu",
        "# A chain is replaced in one step: no moment without rules.",
        f"iptables-restore --wait --noflush <<'RULES'\n{_table(ipv4, containers=True)}RULES",
        "iptables --wait -N DOCKER-USER 2>/dev/null || : # Docker makes it, too, if it is not there",
        _jump("iptables", "INPUT", "CLOUDBURST"),
        _jump("iptables", "DOCKER-USER", "CLOUDBURST-CONTAINERS"),
        "if ip6tables --wait -L INPUT -n >/dev/null 2>&1; then",
        f"ip6tables-restore --wait --noflush <<'RULES'\n{_table(ipv6, containers=False)}RULES",
        _jump("ip6tables", "INPUT", "CLOUDBURST"),
        "fi",
    ]
    return "\n".join(lines) + "\n"


def boot_file(*, systemd: bool) -> tuple[str, str, int]:
    """What runs the script at boot: path, contents, mode."""
    if systemd:
        unit = (
            "[Unit]\nDescription=CloudBurst: ports between nodes\nBefore=docker.service\n"
            f"[Service]\nType=oneshot\nExecStart={SCRIPT}\n[Install]\nWantedBy=multi-user.target\n"
        )
        return SYSTEMD_UNIT, unit, 0o644
    init = (
        "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: cloudburst-firewall\n# Required-Start: $network\n"
        "# Required-Stop:\n# X-Start-Before: docker\n# Default-Start: 2 3 4 5\n# Default-Stop:\n"
        "# Short-Description: CloudBurst: ports between nodes\n### END INIT INFO\n"
        f'case "$1" in start | restart | force-reload) exec {SCRIPT} ;; esac\n'
    )
    return INIT_SCRIPT, init, 0o755


def apply(*, systemd: bool) -> Command:
    """Run the script, and see to it that it runs at each boot."""
    enable = (
        "systemctl daemon-reload; systemctl enable --quiet cloudburst-firewall"
        if systemd
        else "update-rc.d cloudburst-firewall defaults"
    )
    return Command(("sh", "-ec", f"{SCRIPT}; {enable}"))


def remove(*, systemd: bool) -> Command:
    """Take away the rules, the script and what runs it at boot."""
    disable = (
        f"systemctl disable --quiet cloudburst-firewall || :; rm -f {SYSTEMD_UNIT}; systemctl daemon-reload"
        if systemd
        else f"rm -f {INIT_SCRIPT}; update-rc.d cloudburst-firewall remove"
    )
    chains = (("INPUT", "CLOUDBURST"), ("DOCKER-USER", "CLOUDBURST-CONTAINERS"))
    rules = "; ".join(
        f"while $tables --wait -D {parent} -j {chain} 2>/dev/null; do :; done; "
        f"$tables --wait -F {chain} 2>/dev/null || :; $tables --wait -X {chain} 2>/dev/null || :"
        for parent, chain in chains
    )
    return Command(
        (
            "sh",
            "-ec",
            f"{disable}; for tables in iptables ip6tables; do {rules}; done; rm -f {SCRIPT}; "
            f"rmdir {SCRIPT.rpartition('/')[0]} 2>/dev/null || :",
        )
    )


def _table(nodes: Sequence[str], *, containers: bool) -> str:
    lines = ["*filter", ":CLOUDBURST - [0:0]", *([":CLOUDBURST-CONTAINERS - [0:0]"] if containers else [])]
    lines.append("-A CLOUDBURST -i lo -j RETURN")
    if containers:
        lines.append(f"-A CLOUDBURST-CONTAINERS -d {METADATA} -j DROP")
    for protocol, port in BETWEEN_NODES:
        ports = f"-p {protocol} --dport {port}"
        lines += [f"-A CLOUDBURST -s {node} {ports} -j ACCEPT" for node in nodes]
        lines.append(f"-A CLOUDBURST {ports} -j DROP")
    return "\n".join([*lines, "COMMIT"]) + "\n"


def _jump(tables: str, parent: str, chain: str) -> str:
    rule = f"{parent} -j {chain}"
    return f"{tables} --wait -C {rule} 2>/dev/null || {tables} --wait -I {rule}"


def _order(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
