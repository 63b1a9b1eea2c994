"""The VPC, the firewall, the SSH key and the tag of a stack: one each, all named after it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.api import Api
from cloudburst.providers.digitalocean.certainly import Certainly
from cloudburst.providers.digitalocean.fleet import Fleet
from cloudburst.providers.digitalocean.refusals import lacks_right
from cloudburst.providers.digitalocean.resources import stack_name, stack_tag

PUBLIC_PORTS = ("22", "443", "6380")
"""SSH, the gateway, and the queue through TLS."""

EVERYWHERE = ("0.0.0.0/0", "::/0")

Thing = dict[str, Any]

EMPTY_POLL_S = 5.0
KEYS_KNOWN_S = 600.0
"""For how long a list of keys is good: ten lists per minute are allowed, so a command makes one."""

EMPTY_LIMIT_S = 300.0
"""How long a VPC may count machines as members that are gone (digitalocean/terraform-provider#488)."""


def firewall_of(fleet: Fleet) -> Thing:
    """The firewall that the fleet's machines need, as the API wants it.

    The machines reach each other on every port, since overlay networks need TCP, UDP and ICMP; others reach
    the public ports, from the allowed addresses; "0" means all ports.
    """
    tag = stack_tag(fleet.stack)
    inbound = [
        {"protocol": "tcp", "ports": "0", "sources": {"tags": [tag]}},
        {"protocol": "udp", "ports": "0", "sources": {"tags": [tag]}},
        {"protocol": "icmp", "ports": "0", "sources": {"tags": [tag]}},
    ]
    if fleet.allow:
        addresses = [str(ipaddress.ip_network(cidr, strict=False)) for cidr in fleet.allow]
        inbound += [
            {"protocol": "tcp", "ports": port, "sources": {"addresses": addresses}} for port in PUBLIC_PORTS
        ]
    outbound = [
        {"protocol": protocol, "ports": "0", "destinations": {"addresses": list(EVERYWHERE)}}
        for protocol in ("tcp", "udp", "icmp")
    ]
    return {
        "name": stack_name(fleet.stack),
        "inbound_rules": inbound,
        "outbound_rules": outbound,
        "tags": [tag],
    }


def says(firewall: Mapping[str, Any]) -> frozenset[tuple[str, ...]]:
    """Everything that a firewall lets pass, and whom it is for, comparable however it is grouped."""
    facts: set[tuple[str, ...]] = {("for", "tag", str(tag)) for tag in firewall.get("tags") or []}
    facts |= {("for", "droplet", str(identity)) for identity in firewall.get("droplet_ids") or []}
    for rules, ends in (("inbound_rules", "sources"), ("outbound_rules", "destinations")):
        for rule in firewall.get(rules) or []:
            ports = str(rule.get("ports") or "0")
            ports = "0" if ports in {"all", "1-65535"} else ports
            for kind, targets in (rule.get(ends) or {}).items():
                for target in targets or []:
                    address = _network(target) if kind == "addresses" else str(target)
                    facts.add((rules, str(rule.get("protocol")), ports, kind, address))
    return frozenset(facts)


def key_material(public_key: str) -> str:
    """Type and key of a line of an .pub file, without its comment."""
    return " ".join(public_key.split()[:2])


class Network:
    """What a stack has at one account beside droplets."""

    def __init__(self, api: Api, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._api = api
        self._certainly = Certainly(sleep)
        self._sleep = sleep
        self._clock = clock
        self._keys: list[Thing] | None = None
        self._keys_listed_at = 0.0

    def vpcs(self, stack: str) -> list[Thing]:
        """Its VPC, if it has one."""
        return _named(self._api.everything("vpcs", "vpcs"), stack)

    def firewalls(self, stack: str) -> list[Thing]:
        """Its firewall, if it has one."""
        return _named(self._api.everything("firewalls", "firewalls"), stack)

    def keys(self, stack: str) -> list[Thing]:
        """Its SSH key, if it has one."""
        return _named(self.all_keys(), stack)

    def all_keys(self, *, again: bool = False) -> list[Thing]:
        """The account's SSH keys: listed once in a while, and kept true to what is changed here.

        ``again``: list them in any case.
        """
        now = self._clock()
        if self._keys is None or again or now - self._keys_listed_at > KEYS_KNOWN_S:
            self._keys = self._api.everything("account/keys", "ssh_keys")
            self._keys_listed_at = now
        return list(self._keys)

    def forget_keys(self) -> None:
        """Who lives longer than a command begins anew."""
        self._keys = None

    def remove_key(self, key: Thing) -> None:
        self._api.delete(f"account/keys/{key['id']}")
        if self._keys is not None:
            self._keys = [one for one in self._keys if str(one["id"]) != str(key["id"])]

    def make_vpc(self, stack: str, region: str) -> str:
        """The identity of the stack's VPC; one that is left over from another region is replaced."""
        there = self.vpcs(stack)
        for vpc in there:
            if vpc.get("region") == region:
                return str(vpc["id"])
            self.remove_vpc(vpc)
        body = {
            "name": stack_name(stack),
            "region": region,
            "description": f"CloudBurst, stack {stack}: made and removed by ./buildstack.sh",
        }
        vpc = self._certainly.made(
            lambda: self._api.post("vpcs", body)["vpc"], lambda: _first(self.vpcs(stack))
        )
        return str(vpc["id"])

    def make_key(self, stack: str, public_key: str, in_use: bool) -> int:
        """The identity of the key, which the account has under one name only.

        ``in_use``: machines were made with the stack's key, so another one under its name is an error
        (ProviderError); else that is left over, and replaced.
        """
        material = key_material(public_key)

        def same(keys: Iterable[Thing]) -> Thing | None:
            return _first(key for key in keys if key_material(str(key.get("public_key"))) == material)

        there = self.all_keys()
        found = same(there)
        if found is None:
            for other in _named(there, stack):
                if in_use:
                    raise ProviderError(
                        f"the machines of the stack {stack} were made with another SSH key than this "
                        "computer has: go on where the stack was made, or remove it with -d"
                    )
                self.remove_key(other)
            body = {"name": stack_name(stack), "public_key": public_key.strip()}
            found = self._certainly.made(
                lambda: self._api.post("account/keys", body)["ssh_key"],
                lambda: same(self.all_keys(again=True)),
            )
            if self._keys is not None and found not in self._keys:
                self._keys.append(found)
        return int(found["id"])

    def make_firewall(self, fleet: Fleet) -> bool:
        """Whether anything had to be changed, so that the firewall is as it should be."""
        wanted = firewall_of(fleet)
        there = self.firewalls(fleet.stack)
        if there and says(there[0]) == says(wanted):
            return False
        self._make_tag(stack_tag(fleet.stack))
        if there:
            self._api.put(f"firewalls/{there[0]['id']}", wanted)
        else:
            self._certainly.made(
                lambda: self._api.post("firewalls", wanted)["firewall"],
                lambda: _first(self.firewalls(fleet.stack)),
            )
        return True

    def has_tag(self, tag: str) -> bool:
        """Whether the account knows the tag."""
        try:
            self._api.get(f"tags/{tag}")
        except ProviderError as error:
            if error.status != 404:
                raise
            return False
        return True

    def _make_tag(self, tag: str) -> None:
        """A firewall takes tags that exist only; droplets make theirs."""
        if not self.has_tag(tag):
            self._certainly.made(
                lambda: self._api.post("tags", {"name": tag}),
                lambda: {"name": tag} if self.has_tag(tag) else None,
            )

    def remove_vpc(self, vpc: Thing) -> str:
        """Remove it, and say so; asks for a while, because machines that are gone stay members for a while.

        The first VPC that is made in a region becomes the account's default there, which the API never
        removes: such a one gets the name that DigitalOcean itself would have given it.
        """
        if vpc.get("default"):
            name = f"default-{vpc['region']}"
            self._api.put(f"vpcs/{vpc['id']}", {"name": name, "description": ""})
            return (
                f"VPC {vpc['name']} is now {name}: DigitalOcean keeps the first of a region; it costs nothing"
            )
        started = self._clock()
        while True:
            try:
                self._api.delete(f"vpcs/{vpc['id']}")
                return f"VPC {vpc['name']} is removed"
            except ProviderError as error:
                if error.status not in {403, 409, 422} or lacks_right(error.reason):
                    raise
                if self._clock() - started > EMPTY_LIMIT_S:
                    raise ProviderError(
                        f"DigitalOcean does not remove the VPC {vpc['name']} (“{error.reason}”): see what "
                        "is in it at https://cloud.digitalocean.com/networking/vpc, and run -d again",
                        status=error.status,
                        reason=error.reason,
                    ) from error
            self._sleep(EMPTY_POLL_S)


def _named(things: Iterable[Thing], stack: str) -> list[Thing]:
    return [thing for thing in things if thing.get("name") == stack_name(stack)]


def _first(things: Iterable[Thing]) -> Thing | None:
    return next(iter(things), None)


def _network(address: str) -> str:
    try:
        return str(ipaddress.ip_network(address, strict=False))
    except ValueError:
        return address
