"""Makes, lists and removes the machines of stacks at DigitalOcean."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.api import Api
from cloudburst.providers.digitalocean.creation import Creation
from cloudburst.providers.digitalocean.droplets import Droplets, node_of, stack_of, unix_time
from cloudburst.providers.digitalocean.fleet import Fleet, FleetPlan, compare
from cloudburst.providers.digitalocean.limits import Offers, Size, check_account, check_names, check_offers
from cloudburst.providers.digitalocean.network import EVERYWHERE, Network, firewall_of, says
from cloudburst.providers.digitalocean.resources import (
    TAG,
    Account,
    Removal,
    Resource,
    stack_name,
    stack_tag,
)
from cloudburst.providers.provider import Node

END_POINT = "https://api.digitalocean.com/v2/"

NO_TAG = "cloudburst-nothing"
"""No droplet ever gets this tag."""

NO_FIREWALL = "00000000-0000-4000-8000-000000000000"
"""A version 4 UUID of zeros: none is ever drawn."""

Say = Callable[[str], None]


class DigitalOcean:
    """All stacks of one account. Methods raise ProviderError."""

    def __init__(
        self,
        token: str,
        end_point: str = END_POINT,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = Api(token, end_point, sleep=sleep, clock=clock)
        self._droplets = Droplets(self._api, sleep, clock)
        self._network = Network(self._api, sleep, clock)
        self._sleep = sleep
        self._clock = clock

    @property
    def calls(self) -> int:
        """How many requests were sent so far."""
        return self._api.calls

    def account(self) -> Account:
        """The account's state and its limits."""
        said = self._api.get("account")["account"]
        return Account(
            status=str(said.get("status") or "active"),
            status_message=str(said.get("status_message") or ""),
            email_verified=bool(said.get("email_verified", True)),
            droplet_limit=int(said.get("droplet_limit") or 0),
        )

    def plan(self, fleet: Fleet) -> FleetPlan:
        """What has to be made and removed for that fleet; changes nothing.

        ProviderError with the exact reason why the fleet cannot be had.
        """
        fleet.check()
        account = self.account()
        tag = stack_tag(fleet.stack)
        droplets = self._droplets.all()
        nodes = [node_of(droplet, fleet.stack) for droplet in droplets if tag in (droplet.get("tags") or [])]
        # First: without the right to read regions, sizes are refused as well.
        regions = self._api.everything("regions", "regions")
        sizes = {size.slug: size for size in map(Size.of, self._api.everything("sizes", "sizes"))}
        prices = {slug: size.price_hourly for slug, size in sizes.items()}
        make, keep, surplus = compare(fleet, nodes, prices)
        elsewhere = [node for node in keep if node.region != fleet.region]
        if elsewhere:
            raise ProviderError(
                f"the stack {fleet.stack} is in {elsewhere[0].region}, and all its machines must be in one "
                f"region: take --region {elsewhere[0].region}, or remove the stack with -d first"
            )
        if make:
            check_account(account, len(droplets), fleet, len(make))
            others = (droplet["name"] for droplet in droplets if tag not in (droplet.get("tags") or []))
            check_names(make, others, fleet.stack)
            check_offers(fleet, make, self._offers(fleet, sizes, regions))
        return FleetPlan(
            fleet=fleet,
            make=tuple(make),
            keep=tuple(keep),
            surplus=tuple(surplus),
            price_hourly=sum(
                [node.price_hourly for node in make] + [node.price_hourly for node in keep], 0.0
            ),
            price_hourly_now=sum((node.price_hourly for node in nodes), 0.0),
            new_resources=tuple(self._missing(fleet)),
        )

    def check_rights(self, plan: FleetPlan) -> None:
        """Raise ProviderError if machines would be made with a token that could not remove or protect them.

        The API tells nobody what a token may do; so it is asked for what changes nothing: to remove the
        droplets with a tag that none bears, and to change a firewall that does not exist.
        """
        if not plan.make:
            return
        wanted = firewall_of(plan.fleet)
        rules = {key: wanted[key] for key in ("name", "outbound_rules")}  # name nothing that has to exist
        probes = (
            lambda: self._api.delete("droplets", tag_name=NO_TAG),
            lambda: self._api.put(f"firewalls/{NO_FIREWALL}", rules),
        )
        for probe in probes:
            try:
                probe()
            except ProviderError as error:
                if error.status in {401, 403}:
                    raise

    def make(self, plan: FleetPlan, public_key: str, say: Say) -> tuple[list[Node], list[str]]:
        """Make what the plan says and wait until every machine is active and has its addresses.

        ``public_key``: the line of an .pub file. The stack's machines, master first and without the surplus,
        and what could not be had. Whatever became of an earlier call, a later one completes it and doubles
        nothing.
        """
        fleet = plan.fleet
        try:
            vpc = self._network.make_vpc(fleet.stack, fleet.region)
            key = self._network.make_key(fleet.stack, public_key, in_use=bool(plan.keep))
            if self._network.make_firewall(fleet):
                say(f"the firewall lets {', '.join(fleet.allow) or 'nobody'} in")
            creation = Creation(
                self._api, self._droplets, fleet, vpc=vpc, key=key, sleep=self._sleep, clock=self._clock
            )
            return creation.carry_out(plan, say)
        except ProviderError as error:
            if plan.keep or plan.surplus or error.status not in {401, 403, 422}:
                raise
            self._undo(fleet.stack, say)
            raise

    def let_in(self, fleet: Fleet) -> None:
        """Make the stack's firewall let in whom the fleet allows, and nobody else."""
        self._network.make_firewall(fleet)

    def is_open(self, stack: str) -> bool:
        """Whether the stack's firewall lets in everybody, as only in the moment of the first login."""
        rules = [rule for firewall in self._network.firewalls(stack) for rule in firewall["inbound_rules"]]
        addresses = [one for rule in rules for one in (rule.get("sources") or {}).get("addresses") or []]
        return any(one in EVERYWHERE for one in addresses)

    def nodes(self, stack: str) -> list[Node]:
        """All droplets of the stack, also those that are off; master first, then by number."""
        return self._droplets.of(stack)

    def remove(self, nodes: Sequence[Node], say: Say) -> None:
        """Remove those machines and wait until they are gone."""
        for stack in dict.fromkeys(node.stack for node in nodes):
            identities = [node.identity for node in nodes if node.stack == stack]
            self._droplets.remove(stack, identities, say)

    def remove_all(self, stack: str, say: Say) -> Removal:
        """Remove everything of the stack, look again, and raise ProviderError if anything is left."""
        removed: list[Resource] = []
        cost = 0.0
        while nodes := self._droplets.of(stack):  # again, for those of a call that was still under way
            say(f"removing {', '.join(node.name for node in nodes)}")
            self._droplets.remove(stack, [node.identity for node in nodes], say)
            resources = [_droplet(node) for node in nodes]
            removed += resources
            cost += sum(resource.cost(self._clock()) for resource in resources)
        failures: list[ProviderError] = []
        for kind in ("firewall", "SSH key", "VPC"):
            try:  # one kind that cannot be removed now does not keep the others
                removed += self._remove_kind(stack, kind, say)
            except ProviderError as error:
                failures.append(error)
        if failures:
            for other in failures[1:]:
                failures[0].add_note(str(other))
            raise failures[0]
        left = [_droplet(node) for node in self._droplets.of(stack)]
        left += [resource for _, resource in self._around(stack, ("firewall", "SSH key", "VPC"))]
        if left:
            raise ProviderError(
                f"still there: {', '.join(f'{resource.kind} {resource.name}' for resource in left)}; "
                "run -d again, or remove it at https://cloud.digitalocean.com"
            )
        self._remove_tag(stack_tag(stack))  # last: by it are droplets found
        if not self.audit():
            self._remove_tag(TAG)
        return Removal(tuple(removed), cost)

    def _remove_kind(self, stack: str, kind: str, say: Say) -> list[Resource]:
        """Remove what the stack has of that kind beside droplets."""
        removed = []
        if kind == "VPC":
            for vpc in self._network.vpcs(stack):
                say(self._network.remove_vpc(vpc))
                removed.append(_thing(kind, stack, vpc))
            return removed
        for path, resource in self._around(stack, (kind,)):
            if kind == "SSH key":
                self._network.remove_key({"id": resource.identity})
            else:
                self._api.delete(path)
            removed.append(resource)
            say(f"{kind} {resource.name} is removed")
        return removed

    def audit(self) -> list[Resource]:
        """Everything of ours at the account, whatever stack it is of; also what is there without droplets."""
        droplets = self._droplets.tagged(TAG)
        found = [_droplet(node_of(droplet, stack_of(droplet.get("tags") or []))) for droplet in droplets]
        for kind, things in (
            ("firewall", self._api.everything("firewalls", "firewalls")),
            ("SSH key", self._network.all_keys()),
            ("VPC", self._api.everything("vpcs", "vpcs")),
        ):
            for thing in things:
                name = str(thing.get("name") or "")
                if name.startswith(f"{TAG}-"):
                    found.append(_thing(kind, name.removeprefix(f"{TAG}-"), thing))
        return sorted(found, key=lambda resource: resource.stack)

    def _offers(self, fleet: Fleet, sizes: dict[str, Size], regions: Sequence[dict[str, Any]]) -> Offers:
        try:
            image = self._api.get(f"images/{fleet.image}")["image"]
        except ProviderError as error:
            if error.status != 404:
                raise
            raise ProviderError(
                f"DigitalOcean has no image {fleet.image!r}: {Fleet.image} is what stacks are tested with",
                status=404,
            ) from error
        return Offers(
            sizes=sizes,
            regions={str(region["slug"]): bool(region.get("available")) for region in regions},
            image_disk_gb=int(image.get("min_disk_size") or 0),
            image_regions=frozenset(image.get("regions") or ()),
        )

    def _missing(self, fleet: Fleet) -> list[str]:
        """What ``make`` makes or changes beside machines."""
        name = stack_name(fleet.stack)
        missing = []
        if not any(vpc.get("region") == fleet.region for vpc in self._network.vpcs(fleet.stack)):
            missing.append(f"VPC {name}")
        firewalls = self._network.firewalls(fleet.stack)
        if not firewalls or says(firewalls[0]) != says(firewall_of(fleet)):
            missing.append(f"firewall {name}" + (" (changed)" if firewalls else ""))
        if not self._network.keys(fleet.stack):
            missing.append(f"SSH key {name}")
        return missing

    def _undo(self, stack: str, say: Say) -> None:
        """What a refused first call has left costs nothing, but it is ours."""
        try:
            if not self._droplets.of(stack):
                self.remove_all(stack, say)
        except ProviderError as error:
            say(f"what was made for it is left: {error}")

    def _around(self, stack: str, kinds: Sequence[str]) -> list[tuple[str, Resource]]:
        """Path and words of what the stack has beside droplets."""
        lists: dict[str, tuple[str, Callable[[str], list[dict[str, Any]]]]] = {
            "firewall": ("firewalls", self._network.firewalls),
            "SSH key": ("account/keys", self._network.keys),
            "VPC": ("vpcs", self._network.vpcs),
        }
        return [
            (f"{lists[kind][0]}/{thing['id']}", _thing(kind, stack, thing))
            for kind in kinds
            for thing in lists[kind][1](stack)
        ]

    def _remove_tag(self, tag: str) -> None:
        """A tag costs nothing and nothing bears it any more: a token may lack the right to remove it."""
        try:
            self._api.delete(f"tags/{tag}")
        except ProviderError as error:
            if error.status != 403:
                raise


def _droplet(node: Node) -> Resource:
    return Resource(
        kind="droplet",
        stack=node.stack,
        name=node.name,
        identity=node.identity,
        created_at=node.created_at,
        price_hourly=node.price_hourly,
        state=node.state,
        price_monthly=node.price_monthly,
    )


def _thing(kind: str, stack: str, said: dict[str, Any]) -> Resource:
    return Resource(
        kind=kind,
        stack=stack,
        name=str(said.get("name") or ""),
        identity=str(said["id"]),
        created_at=unix_time(said.get("created_at")),
    )
