"""The networks between the machines: a bridge on this machine with a way out, and maybe one without."""

from __future__ import annotations

import ipaddress
import json
import shlex
from pathlib import Path

from tests.swarm.process import run


class Network:
    """A bridge ``cbfarmN`` with 10.71.N.1/24. Its rules in iptables carry its name, to be found again.

    Machines with a second network device meet on one more, 10.72.N.0/24, where this machine has no address.
    """

    def __init__(self, number: int) -> None:
        self.name = f"cbfarm{number}"
        self.subnet = ipaddress.ip_network(f"10.71.{number}.0/24")
        self.gateway = f"10.71.{number}.1"
        self.private_subnet = ipaddress.ip_network(f"10.72.{number}.0/24")
        self._private = f"{self.name}p"
        self._veth = f"cbf{number}-"

    def taken(self) -> str | None:
        """Who has these addresses already: a device that isn't ours, or none."""
        for route in json.loads(run(["ip", "-json", "route"]).stdout or "[]"):
            if route["dst"] == "default" or route.get("dev") == self.name:
                continue
            there = ipaddress.ip_network(route["dst"], strict=False)
            if self.subnet.overlaps(there) or self.private_subnet.overlaps(there):
                return str(route.get("dev"))
        return None

    def create(self) -> None:
        run(["ip", "link", "add", self.name, "type", "bridge"])
        run(["ip", "address", "add", f"{self.gateway}/24", "dev", self.name])
        run(["ip", "link", "set", self.name, "up"])
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        self._let_through(self.name)
        subnet = str(self.subnet)
        way_out = ["POSTROUTING", "-s", subnet, "!", "-d", subnet, *self._mark, "-j", "MASQUERADE"]
        run(["iptables", "-w", "-t", "nat", "-A", *way_out])

    def create_private(self) -> None:
        """The second bridge, if it is not there."""
        if self._private not in self._links():
            run(["ip", "link", "add", self._private, "type", "bridge"])
            run(["ip", "link", "set", self._private, "up"])
            self._let_through(self._private)

    def remove(self) -> None:
        """All of it, whoever made it."""
        for table in ("filter", "nat"):
            for rule in run(["iptables-save", "-t", table]).stdout.splitlines():
                words = shlex.split(rule)
                if words[:1] == ["-A"] and self.name in words:
                    run(["iptables", "-w", "-t", table, "-D", *words[1:]])
        for link in self._links():
            run(["ip", "link", "delete", link], check=False)  # gone with its other end, maybe

    def device(self, number: int) -> str:
        """This machine's end of the cable of that machine."""
        return f"{self._veth}{number}"

    def plug(self, number: int, pid: int) -> None:
        """``eth0`` in the network namespace of this process."""
        self._cable(self.device(number), self.name, "eth0", pid)

    def plug_private(self, number: int, pid: int, address: str) -> None:
        """``eth1`` there, with this address, as a cloud's own services set it up."""
        self._cable(f"{self.device(number)}p", self._private, "eth1", pid)
        inside = ["nsenter", "--net", "--target", str(pid), "ip"]
        run([*inside, "address", "add", f"{address}/{self.private_subnet.prefixlen}", "dev", "eth1"])
        run([*inside, "link", "set", "eth1", "up"])

    def cut(self, number: int) -> None:
        """Nothing gets through, and nobody is told."""
        for device, _ in self._cables(number):
            run(["ip", "link", "set", device, "nomaster"])

    def mend(self, number: int) -> None:
        for device, bridge in self._cables(number):
            run(["ip", "link", "set", device, "master", bridge])

    def _cable(self, device: str, bridge: str, name: str, pid: int) -> None:
        run(["ip", "link", "delete", device], check=False)
        run(["ip", "link", "add", device, "type", "veth", "peer", "name", name, "netns", str(pid)])
        run(["ip", "link", "set", device, "master", bridge, "up"])

    def _cables(self, number: int) -> list[tuple[str, str]]:
        device = self.device(number)
        there = self._links()
        return [
            (end, bridge)
            for end, bridge in ((device, self.name), (f"{device}p", self._private))
            if end in there
        ]

    def _let_through(self, bridge: str) -> None:
        for direction in ("-i", "-o"):
            run(["iptables", "-w", "-I", "FORWARD", direction, bridge, *self._mark, "-j", "ACCEPT"])

    @property
    def _mark(self) -> list[str]:
        return ["-m", "comment", "--comment", self.name]

    def _links(self) -> list[str]:
        links = (link["ifname"] for link in json.loads(run(["ip", "-json", "link"]).stdout))
        ours = {self.name, self._private}
        return sorted((n for n in links if n in ours or n.startswith(self._veth)), reverse=True)
