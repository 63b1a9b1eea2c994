"""The network between the machines: a bridge on this machine, with a way out."""

from __future__ import annotations

import ipaddress
import json
import shlex
from pathlib import Path

from tests.swarm.process import run


class Network:
    """A bridge ``cbfarmN`` with 10.71.N.1/24. Its rules in iptables carry its name, to be found again."""

    def __init__(self, number: int) -> None:
        self.name = f"cbfarm{number}"
        self._veth = f"cbf{number}-"
        self.subnet = ipaddress.ip_network(f"10.71.{number}.0/24")
        self.gateway = f"10.71.{number}.1"

    def taken(self) -> str | None:
        """Who has these addresses already: a device that isn't ours, or none."""
        for route in json.loads(run(["ip", "-json", "route"]).stdout or "[]"):
            if route["dst"] == "default" or route.get("dev") == self.name:
                continue
            if self.subnet.overlaps(ipaddress.ip_network(route["dst"], strict=False)):
                return str(route.get("dev"))
        return None

    def create(self) -> None:
        run(["ip", "link", "add", self.name, "type", "bridge"])
        run(["ip", "address", "add", f"{self.gateway}/24", "dev", self.name])
        run(["ip", "link", "set", self.name, "up"])
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        subnet, mark = str(self.subnet), ["-m", "comment", "--comment", self.name]
        for direction in ("-i", "-o"):
            run(["iptables", "-w", "-I", "FORWARD", direction, self.name, *mark, "-j", "ACCEPT"])
        way_out = ["POSTROUTING", "-s", subnet, "!", "-d", subnet, *mark, "-j", "MASQUERADE"]
        run(["iptables", "-w", "-t", "nat", "-A", *way_out])

    def remove(self) -> None:
        """All of it, whoever made it."""
        for table in ("filter", "nat"):
            for rule in run(["iptables-save", "-t", table]).stdout.splitlines():
                words = shlex.split(rule)
                if words[:1] == ["-A"] and self.name in words:
                    run(["iptables", "-w", "-t", table, "-D", *words[1:]])
        for link in self._links():
            run(["ip", "link", "delete", link], check=False)  # gone with its other end, maybe

    def plug(self, machine: str, pid: int) -> None:
        """``eth0`` in the network namespace of this process."""
        veth = self._veth + machine
        run(["ip", "link", "delete", veth], check=False)
        run(["ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", str(pid)])
        run(["ip", "link", "set", veth, "master", self.name, "up"])

    def cut(self, machine: str) -> None:
        """Nothing gets through, and nobody is told."""
        run(["ip", "link", "set", self._veth + machine, "nomaster"])

    def mend(self, machine: str) -> None:
        run(["ip", "link", "set", self._veth + machine, "master", self.name])

    def _links(self) -> list[str]:
        links = (link["ifname"] for link in json.loads(run(["ip", "-json", "link"]).stdout))
        return sorted((n for n in links if n == self.name or n.startswith(self._veth)), reverse=True)
