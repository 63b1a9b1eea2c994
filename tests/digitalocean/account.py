"""The account behind the fake: droplets, firewalls, VPCs, keys, tags, and what time does to them.

In one piece, since each of them decides what may be done with another.
"""

from __future__ import annotations

import ipaddress
import itertools
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.digitalocean import catalogue
from tests.digitalocean.contents import check_addresses, md5, shown_rules
from tests.digitalocean.droplets import Droplet, Hardware, Records, Times
from tests.digitalocean.refusals import Refusal, conflict, forbidden, not_found, unprocessable

Json = dict[str, Any]


@dataclass
class Account:
    """All methods that answer requests raise :class:`Refusal`; the fake holds its lock meanwhile."""

    clock: Callable[[], float] = time.time
    times: Times = field(default_factory=Times)
    hardware: Hardware = field(default_factory=Records)
    url: str = ""
    droplet_limit: int = 25
    status: str = "active"
    vpc_refusal: int = 409
    """The status of the answer to a DELETE of a VPC with members: the specification says 403."""

    def __post_init__(self) -> None:
        self.all_droplets: dict[int, Droplet] = {}
        """Deleted ones, too."""
        self.firewalls: dict[str, Json] = {}
        self.vpcs: dict[str, Json] = {}
        self.keys: dict[int, Json] = {}
        self._keys_made: dict[int, float] = {}
        self.tags: set[str] = set()
        self.actions: dict[int, Json] = {}
        self._numbers = itertools.count(3164000)
        thirds = range(0, 256, 16)
        generated = (f"10.{second}.{third}.0/20" for second in range(110, 120) for third in thirds)
        self._ranges = [range_ for range_ in (self.hardware.network, *generated) if range_]
        self._to_break: dict[str, int] = {}
        self._default_vpc("fra1")

    # What tests ask and do.

    @property
    def droplets(self) -> list[Droplet]:
        """All that are billed, in the order of their making."""
        return [droplet for droplet in self.all_droplets.values() if not self._gone(droplet)]

    def names(self, tag: str = "") -> list[str]:
        """Of the droplets that are there and not being deleted."""
        there = (d for d in self.droplets if d.deleted_at is None and (not tag or tag in d.tags))
        return sorted(droplet.name for droplet in there)

    def left(self) -> list[str]:
        """All that was ever made and is still there: droplets, firewalls, VPCs, keys. (Tags cost nothing.)"""
        found = [f"droplet {droplet.name}" for droplet in self.droplets]
        found += [f"firewall {firewall['name']}" for firewall in self.firewalls.values()]
        found += [f"VPC {vpc['name']}" for vpc in self.vpcs.values() if not vpc["default"]]
        found += [f"SSH key {key['name']}" for key in self.keys.values()]
        return found

    def billed(self) -> float:
        """USD for all droplets that there ever were: by the second, at least a cent each, a month at most."""
        total, now = 0.0, self.clock()
        for droplet in self.all_droplets.values():
            hours = ((now if droplet.deleted_at is None else droplet.deleted_at) - droplet.created_at) / 3600
            price = min(hours * float(droplet.size["price_hourly"]), float(droplet.size["price_monthly"]))
            total += max(price, 0.01)
        return total

    def break_droplet(self, name: str, times: int = 1) -> None:
        """The next so many droplets of this name never become active: their action ends as errored."""
        self._to_break[name] = times

    def droplet(self, name: str) -> Droplet:
        """The one of this name."""
        (found,) = (d for d in self.droplets if d.name == name and d.deleted_at is None)
        return found

    def power_off(self, name: str) -> None:
        """As its owner does it in the control panel."""
        self._power(self.droplet(name), on=False)

    def lose(self, name: str) -> None:
        """Gone at once, as if its owner had destroyed it in the control panel long ago."""
        droplet = self.droplet(name)
        self._destroy(droplet)
        droplet.deleted_at = self.clock() - self.times.delete_s - self.times.member_s - 1

    # Account, prices, images.

    def account(self) -> Json:
        return {
            "account": {
                "droplet_limit": self.droplet_limit,
                "floating_ip_limit": 3,
                "reserved_ip_limit": 3,
                "volume_limit": 100,
                "email": "sammy@example.com",
                "name": "Sammy the Shark",
                "uuid": "b6fr89dbf6d9156cace5f3c78dc9851d957381ef",
                "email_verified": True,
                "status": self.status,
                "status_message": "",
                "team": {"uuid": "5df3e3004a17e242b7c20ca6c9fc25b701a47ece", "name": "My Team"},
            }
        }

    def balance(self) -> Json:
        cost = f"{self.billed():.2f}"
        return {
            "month_to_date_balance": cost,
            "account_balance": "0.00",
            "month_to_date_usage": cost,
            "generated_at": self._time(self.clock()),
        }

    def image(self, key: str) -> Json:
        for image in catalogue.images():
            if key in {image["slug"], str(image["id"])}:
                return {"image": image}
        raise not_found()

    # Droplets.

    def create_droplets(self, body: Json) -> Json:
        names = body["names"] if "names" in body else [body["name"]]
        region = next((r for r in catalogue.regions() if r["slug"] == body["region"]), None)
        size = next((s for s in catalogue.sizes() if s["slug"] == body["size"]), None)
        if region is None or not region["available"]:
            raise unprocessable("You specified an invalid region for Droplet creation.")
        if size is None:
            raise unprocessable("You specified an invalid size for Droplet creation.")
        if not size["available"] or region["slug"] not in size["regions"]:
            raise unprocessable("Size is not available in this region.")
        try:
            image = self.image(str(body["image"]))["image"]
        except Refusal:
            raise unprocessable("You specified an invalid image for Droplet creation.") from None
        keys = [self._key_for_droplet(key)["public_key"] for key in body.get("ssh_keys", [])]
        vpc = self.vpcs.get(body["vpc_uuid"]) if "vpc_uuid" in body else self._default_vpc(region["slug"])
        if vpc is None or vpc["region"] != region["slug"]:
            raise unprocessable("Failed to resolve VPC")
        if len(self.droplets) + len(names) > self.droplet_limit:
            raise unprocessable("creating this/these droplet(s) will exceed your droplet limit")
        tags = list(dict.fromkeys(body.get("tags", [])))
        self.tags.update(tags)
        made = []
        for name in names:
            number = next(self._numbers)
            droplet = Droplet(
                number, name, region["slug"], size, image, tags, vpc["id"], keys,
                body.get("user_data", ""), self.clock(), broken=self._breaks(name),
            )  # fmt: skip
            self.all_droplets[number] = droplet
            self.hardware.make(droplet)
            if not droplet.private_address:
                own = (d for d in self.all_droplets.values() if d.vpc == vpc["id"])
                network = ipaddress.ip_network(vpc["ip_range"])
                droplet.private_address = str(network.network_address + 1 + len(list(own)))
            droplet.action = self._act(droplet, "create")
            made.append(droplet)
        many = "names" in body
        rel = "multiple_create" if many else "create"
        links = [{"id": d.action, "rel": rel, "href": f"{self.url}/v2/actions/{d.action}"} for d in made]
        shown = [self.show_droplet(droplet, fresh=True) for droplet in made]
        return {**({"droplets": shown} if many else {"droplet": shown[0]}), "links": {"actions": links}}

    def list_droplets(
        self, tag_name: str | None = None, name: str | None = None, type_: str = "droplets"
    ) -> list[Json]:
        """Those with a GPU are in no list but that of ``gpus``."""
        return [
            self.show_droplet(droplet)
            for droplet in self.droplets
            if self.clock() - droplet.created_at >= self.times.listed_s
            and ("gpu_info" in droplet.size) == (type_ == "gpus")
            and (tag_name is None or tag_name in droplet.tags)
            and (name is None or name.lower() == droplet.name.lower())
        ]

    def get_droplet(self, number: str) -> Json:
        return {"droplet": self.show_droplet(self._droplet(number))}

    def delete_droplet(self, number: str) -> None:
        droplet = self._droplet(number)
        if self._state(droplet) == "new" and not droplet.broken:
            raise unprocessable("Droplet already has a pending event.")
        self._destroy(droplet)

    def delete_droplets(self, tag_name: str) -> None:
        """Those that are being created are skipped, as ones with a pending event."""
        for droplet in self.droplets:
            if tag_name in droplet.tags and (self._state(droplet) != "new" or droplet.broken):
                self._destroy(droplet)

    def droplet_actions(self, number: str) -> list[Json]:
        droplet = self._droplet(number)
        return [self.show_action(a["id"]) for a in self.actions.values() if a["resource_id"] == droplet.id]

    def action(self, number: str, droplet: str | None = None) -> Json:
        known = self.actions.get(int(number))
        if known is None or (droplet is not None and known["resource_id"] != int(droplet)):
            raise not_found()
        return {"action": self.show_action(known["id"])}

    def act(self, number: str, kind: str) -> Json:
        droplet = self._droplet(number)
        if self._state(droplet) == "new":
            raise unprocessable("Droplet already has a pending event.")
        if kind == "power_on" and droplet.powered:
            raise unprocessable("Droplet is already powered on.")
        self._power(droplet, on=kind in {"power_on", "reboot"})
        return {"action": self.show_action(self._act(droplet, kind))}

    def show_droplet(self, droplet: Droplet, *, fresh: bool = False) -> Json:
        """``fresh``: as in the answer to the POST that made it, which is never done by then."""
        state = "new" if fresh else self._state(droplet)
        networks: list[Json] = []
        age = self.clock() - droplet.created_at
        if not fresh and not droplet.broken and age >= self.times.address_s and self.hardware.ready(droplet):
            vpc = (
                ipaddress.ip_network(self.vpcs[droplet.vpc]["ip_range"]) if droplet.vpc in self.vpcs else None
            )
            networks = [
                {
                    "ip_address": droplet.private_address,
                    "netmask": str(vpc.netmask) if vpc else "255.255.240.0",
                    "gateway": str(vpc.network_address + 1) if vpc else "",
                    "type": "private",
                },
                {
                    "ip_address": droplet.address,
                    "netmask": "255.255.240.0",
                    "gateway": droplet.address.rsplit(".", 1)[0] + ".1",
                    "type": "public",
                },
            ]
        return {
            "id": droplet.id,
            "name": droplet.name,
            "memory": droplet.size["memory"],
            "vcpus": droplet.size["vcpus"],
            "disk": droplet.size["disk"],
            "locked": state == "new",
            "status": state,
            "kernel": None,
            "created_at": self._time(droplet.created_at),
            "features": ["private_networking"] if networks else [],
            "backup_ids": [],
            "next_backup_window": None,
            "snapshot_ids": [],
            "image": droplet.image,
            "volume_ids": [],
            "size": droplet.size,
            "size_slug": droplet.size["slug"],
            "networks": {"v4": networks, "v6": []},
            "region": next(r for r in catalogue.regions() if r["slug"] == droplet.region),
            "tags": list(droplet.tags),
            "vpc_uuid": droplet.vpc,
        }

    def show_action(self, number: int) -> Json:
        action = dict(self.actions[number])
        droplet = self.all_droplets[action["resource_id"]]
        if action["type"] == "create":
            if droplet.broken and self.clock() - droplet.created_at >= self.times.boot_s:
                action["status"] = "errored"
            elif self._state(droplet) == "new":
                action["status"] = "in-progress"
        done = action["status"] != "in-progress"
        return {**action, "completed_at": self._time(self.clock()) if done else None}

    # Firewalls.

    def create_firewall(self, body: Json) -> Json:
        if any(firewall["name"] == body["name"] for firewall in self.firewalls.values()):
            raise conflict("duplicate name")
        identity = str(uuid.uuid4())
        self.firewalls[identity] = {
            "id": identity,
            "created_at": self._time(self.clock()),
            **self._firewall(body),
        }
        return self.get_firewall(identity)

    def list_firewalls(self) -> list[Json]:
        return [self._show_firewall(firewall) for firewall in self.firewalls.values()]

    def get_firewall(self, identity: str) -> Json:
        return {"firewall": self._show_firewall(_find(self.firewalls, identity))}

    def update_firewall(self, identity: str, body: Json) -> Json:
        firewall = _find(self.firewalls, identity)
        same = (f for f in self.firewalls.values() if f is not firewall and f["name"] == body["name"])
        if any(same):
            raise conflict("duplicate name")
        firewall.update(self._firewall(body))
        return self.get_firewall(identity)

    def delete_firewall(self, identity: str) -> None:
        _find(self.firewalls, identity)
        del self.firewalls[identity]

    def add_firewall_tags(self, identity: str, tags: list[str]) -> None:
        firewall = _find(self.firewalls, identity)
        self._need_tags(tags)
        firewall["tags"] = [*dict.fromkeys([*firewall["tags"], *tags])]

    def remove_firewall_tags(self, identity: str, tags: list[str]) -> None:
        firewall = _find(self.firewalls, identity)
        firewall["tags"] = [tag for tag in firewall["tags"] if tag not in tags]

    # VPCs.

    def create_vpc(self, body: Json) -> Json:
        if body["region"] not in {r["slug"] for r in catalogue.regions() if r["available"]}:
            raise unprocessable("invalid region")
        if any(vpc["name"] == body["name"] for vpc in self.vpcs.values()):
            raise conflict("a VPC with this name already exists")
        wanted = body.get("ip_range") or self._free_range(self._ranges)
        try:
            network = ipaddress.IPv4Network(wanted)
        except ValueError:
            raise unprocessable("ip_range is not a valid CIDR") from None
        if not 16 <= network.prefixlen <= 28 or not network.is_private:
            raise unprocessable("ip_range size must be between /16 and /28")
        if any(network.overlaps(ipaddress.IPv4Network(vpc["ip_range"])) for vpc in self.vpcs.values()):
            raise unprocessable("This range/size overlaps with another VPC network in your account.")
        first = all(vpc["region"] != body["region"] for vpc in self.vpcs.values())
        description = body.get("description", "")
        return {"vpc": self._vpc(body["name"], body["region"], str(network), description, default=first)}

    def list_vpcs(self) -> list[Json]:
        return list(self.vpcs.values())

    def get_vpc(self, identity: str) -> Json:
        return {"vpc": _find(self.vpcs, identity)}

    def update_vpc(self, identity: str, body: Json) -> Json:
        vpc = _find(self.vpcs, identity)
        vpc.update(body)
        return {"vpc": vpc}

    def vpc_members(self, identity: str) -> list[Json]:
        _find(self.vpcs, identity)
        return [
            {
                "urn": f"do:droplet:{droplet.id}",
                "name": droplet.name,
                "created_at": self._time(droplet.created_at),
            }
            for droplet in self.all_droplets.values()
            if droplet.vpc == identity and not self._gone(droplet, self.times.member_s)
        ]

    def delete_vpc(self, identity: str) -> None:
        vpc = _find(self.vpcs, identity)
        if vpc["default"]:
            refusal = forbidden()
            refusal.message = "The default VPC for a region can not be deleted"
            raise refusal
        if self.vpc_members(identity):
            refusal = conflict("Can not delete VPC with members")
            refusal.status = self.vpc_refusal
            raise refusal
        del self.vpcs[identity]

    # SSH keys.

    def create_key(self, body: Json) -> Json:
        fingerprint = md5(body["public_key"])
        if any(key["fingerprint"] == fingerprint for key in self.keys.values()):
            raise unprocessable("SSH Key is already in use on your account")
        number = next(self._numbers)
        public = body["public_key"]
        self.keys[number] = {
            "id": number,
            "fingerprint": fingerprint,
            "public_key": public,
            "name": body["name"],
        }
        self._keys_made[number] = self.clock()
        return {"ssh_key": self.keys[number]}

    def list_keys(self) -> list[Json]:
        return list(self.keys.values())

    def get_key(self, key: str) -> Json:
        return {"ssh_key": self._key(key)}

    def update_key(self, key: str, body: Json) -> Json:
        found = self._key(key)
        found.update(body)
        return {"ssh_key": found}

    def delete_key(self, key: str) -> None:
        del self.keys[self._key(key)["id"]]

    # Tags.

    def create_tag(self, name: str) -> Json:
        self.tags.add(name)
        return self.get_tag(name)

    def list_tags(self) -> list[Json]:
        return [self.get_tag(name)["tag"] for name in sorted(self.tags)]

    def get_tag(self, name: str) -> Json:
        if name not in self.tags:
            raise not_found()
        count = len([droplet for droplet in self.droplets if name in droplet.tags])
        return {"tag": {"name": name, "resources": {"count": count, "droplets": {"count": count}}}}

    def delete_tag(self, name: str) -> None:
        if name not in self.tags:
            raise not_found()
        self.tags.discard(name)
        for droplet in self.all_droplets.values():
            droplet.tags = [tag for tag in droplet.tags if tag != name]
        for firewall in self.firewalls.values():
            firewall["tags"] = [tag for tag in firewall["tags"] if tag != name]

    # Inside.

    def _time(self, seconds: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

    def _state(self, droplet: Droplet) -> str:
        old_enough = self.clock() - droplet.created_at >= self.times.boot_s
        if droplet.broken or not old_enough or not self.hardware.ready(droplet):
            return "new"
        return "active" if droplet.powered else "off"

    def _gone(self, droplet: Droplet, later_s: float = 0.0) -> bool:
        if droplet.deleted_at is None:
            return False
        passed = self.clock() - droplet.deleted_at >= self.times.delete_s + later_s
        return passed and self.hardware.gone(droplet)

    def _droplet(self, number: str) -> Droplet:
        droplet = self.all_droplets.get(int(number))
        if droplet is None or self._gone(droplet):
            raise not_found()
        return droplet

    def _destroy(self, droplet: Droplet) -> None:
        if droplet.deleted_at is None:
            droplet.deleted_at = self.clock()
            self._act(droplet, "destroy")
            self.hardware.remove(droplet)

    def _power(self, droplet: Droplet, *, on: bool) -> None:
        droplet.powered = on
        self.hardware.power(droplet, on=on)

    def _breaks(self, name: str) -> bool:
        left = self._to_break.get(name, 0)
        self._to_break[name] = left - 1
        return left > 0

    def _act(self, droplet: Droplet, kind: str) -> int:
        number = next(self._numbers)
        self.actions[number] = {
            "id": number,
            "status": "completed",
            "type": kind,
            "started_at": self._time(self.clock()),
            "completed_at": None,
            "resource_id": droplet.id,
            "resource_type": "droplet",
            "region": next(r for r in catalogue.regions() if r["slug"] == droplet.region),
            "region_slug": droplet.region,
        }
        return number

    def _firewall(self, body: Json) -> Json:
        inbound, outbound = body.get("inbound_rules", []), body.get("outbound_rules", [])
        if not inbound and not outbound:
            raise unprocessable("must have at least one rule")
        for rules, target in ((inbound, "sources"), (outbound, "destinations")):
            for rule in rules:
                if not any(rule[target].values()):
                    raise unprocessable(f"missing {target}")
                check_addresses(rule[target].get("addresses", []))
                self._need_tags(rule[target].get("tags", []))
        self._need_tags(body.get("tags", []))
        for number in body.get("droplet_ids", []):
            self._droplet(str(number))
        return {
            "name": body["name"],
            "inbound_rules": shown_rules(inbound),
            "outbound_rules": shown_rules(outbound),
            "droplet_ids": body.get("droplet_ids", []),
            "tags": body.get("tags", []),
        }

    def _need_tags(self, tags: Sequence[str]) -> None:
        absent = [tag for tag in tags if tag not in self.tags]
        if absent:
            raise unprocessable(f"tag {absent[0]} does not exist")

    def _show_firewall(self, firewall: Json) -> Json:
        behind = [d for d in self.droplets if set(d.tags) & set(firewall["tags"])]
        new = [d for d in behind if self._state(d) == "new"]
        changes = [{"droplet_id": d.id, "removing": False, "status": "waiting"} for d in new]
        return {**firewall, "status": "waiting" if new else "succeeded", "pending_changes": changes}

    def _default_vpc(self, region: str) -> Json:
        for vpc in self.vpcs.values():
            if vpc["default"] and vpc["region"] == region:
                return vpc
        return self._vpc(f"default-{region}", region, self._free_range(self._ranges[1:]), "", default=True)

    def _free_range(self, candidates: list[str]) -> str:
        taken = [ipaddress.IPv4Network(vpc["ip_range"]) for vpc in self.vpcs.values()]
        free = (one for one in candidates if not any(ipaddress.IPv4Network(one).overlaps(t) for t in taken))
        return next(free)

    def _vpc(self, name: str, region: str, ip_range: str, description: str, *, default: bool = False) -> Json:
        identity = str(uuid.uuid4())
        self.vpcs[identity] = {
            "id": identity,
            "urn": f"do:vpc:{identity}",
            "name": name,
            "description": description,
            "region": region,
            "ip_range": ip_range,
            "default": default,
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%S.447049222Z", time.gmtime(self.clock())),
        }
        return self.vpcs[identity]

    def _key(self, key: str) -> Json:
        for known in self.keys.values():
            if key in {str(known["id"]), known["fingerprint"]}:
                return known
        raise not_found()

    def _key_for_droplet(self, key: object) -> Json:
        try:
            known = self._key(str(key))
            if self.clock() - self._keys_made.get(known["id"], 0.0) < self.times.key_s:
                raise not_found()
        except Refusal:
            raise unprocessable(f"{key} are invalid key identifiers for Droplet creation.") from None
        return known


def _find(records: dict[str, Json], identity: str) -> Json:
    if identity not in records:
        raise not_found()
    return records[identity]
