"""Whether an account can have the machines that are wanted: checked before anything is made."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.fleet import Fleet, NewNode
from cloudburst.providers.digitalocean.resources import Account

MASTER_MIN_MB = 2048
"""Redis, InfluxDB, Grafana and the others start with less, but have no room for an ensemble."""

NODE_MIN_MB = 1024


@dataclass(frozen=True)
class Size:
    """What a droplet can be."""

    slug: str
    memory_mb: int
    vcpus: int
    disk_gb: int
    price_hourly: float
    """US dollars."""
    regions: frozenset[str]
    """Where there are any at the moment."""
    available: bool
    has_gpu: bool = False

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Size:
        """A size in the API's words."""
        return cls(
            slug=str(said["slug"]),
            memory_mb=int(said.get("memory") or 0),
            vcpus=int(said.get("vcpus") or 0),
            disk_gb=int(said.get("disk") or 0),
            price_hourly=float(said.get("price_hourly") or 0.0),
            regions=frozenset(said.get("regions") or ()),
            available=bool(said.get("available", True)),
            has_gpu=bool(said.get("gpu_info")) or str(said["slug"]).startswith("gpu-"),
        )

    def __str__(self) -> str:
        return f"{self.slug} ({self.vcpus} CPUs, {self.memory_mb / 1024:g} GB, ${self.price_hourly:.3f}/h)"


@dataclass(frozen=True)
class Offers:
    """What DigitalOcean has, to this account."""

    sizes: Mapping[str, Size]
    regions: Mapping[str, bool]
    """Whether droplets can be made in them."""
    image_disk_gb: int
    image_regions: frozenset[str]


def check_account(account: Account, droplets: int, fleet: Fleet, new: int) -> None:
    """``droplets``: all that the account has, of whatever stack or none."""
    if account.status == "locked":
        raise ProviderError(
            f"DigitalOcean has locked the account ({account.status_message or 'without a reason'}): "
            "see https://cloud.digitalocean.com/support"
        )
    if droplets + new > account.droplet_limit:
        raise ProviderError(
            f"the account may have {account.droplet_limit} droplets and has {droplets}: the {new} that "
            f"the stack {fleet.stack} still needs are too many; take a smaller -n, remove others (`audit` "
            "lists ours), or ask for more at https://cloud.digitalocean.com/account/team/droplet_limit_increase"
        )


def check_names(new: Sequence[NewNode], others: Iterable[str], stack: str) -> None:
    """``others``: the names of the account's droplets that are not of the stack."""
    taken = sorted({node.name for node in new} & set(others))
    if taken:
        raise ProviderError(
            f"the account has a droplet {taken[0]} that is not of the stack {stack}: "
            "choose another name for the stack with --name"
        )


def check_offers(fleet: Fleet, new: Sequence[NewNode], offers: Offers) -> None:
    """Whether what the new machines are made of is to be had."""
    where = sorted(region for region, available in offers.regions.items() if available)
    if fleet.region not in offers.regions:
        raise ProviderError(
            f"DigitalOcean has no region {fleet.region!r}: take --region with one of {', '.join(where)}"
        )
    if not offers.regions[fleet.region]:
        raise ProviderError(
            f"no droplets can be made in {fleet.region} at the moment: "
            f"take --region with one of {', '.join(where)}"
        )
    if offers.image_regions and fleet.region not in offers.image_regions:
        raise ProviderError(
            f"the image {fleet.image} is not in {fleet.region}, but in "
            f"{', '.join(sorted(offers.image_regions))}"
        )
    for slug in dict.fromkeys(node.size for node in new):
        least_mb = MASTER_MIN_MB if any(_is_master(fleet, node, slug) for node in new) else NODE_MIN_MB
        _check_size(slug, least_mb, fleet.region, offers)


def _is_master(fleet: Fleet, node: NewNode, slug: str) -> bool:
    return node.name == fleet.master and node.size == slug


def _check_size(slug: str, least_mb: int, region: str, offers: Offers) -> None:
    least = Size("", least_mb, 1, offers.image_disk_gb, 0.0, frozenset(), True)
    size = offers.sizes.get(slug)
    if size is None:
        near = difflib.get_close_matches(slug, offers.sizes, n=3) or [
            size.slug for size in alternatives(least, region, offers.sizes)
        ]
        raise ProviderError(f"DigitalOcean has no size {slug!r}: perhaps {' or '.join(near)}?")
    if size.has_gpu:
        others = alternatives(least, region, offers.sizes)
        raise ProviderError(
            f"{slug} has a GPU, and stacks at DigitalOcean are made of machines without: neither the images "
            f"of CloudBurst nor Docker there could use it; {region} has {_listed(others)}"
        )
    if size.memory_mb < least_mb:
        others = alternatives(least, region, offers.sizes)
        who = "a master" if least_mb == MASTER_MIN_MB else "a compute node"
        raise ProviderError(
            f"{size} has too little memory: {who} needs {least_mb / 1024:g} GB; "
            f"{region} has {_listed(others)}"
        )
    if size.disk_gb < offers.image_disk_gb:
        raise ProviderError(
            f"{size} has a disk of {size.disk_gb} GB, and the image needs {offers.image_disk_gb} GB; "
            f"{region} has {_listed(alternatives(least, region, offers.sizes))}"
        )
    if not size.available or region not in size.regions:
        elsewhere = ", ".join(sorted(size.regions)) if size.available and size.regions else "nowhere"
        raise ProviderError(
            f"{slug} is not to be had in {region} at the moment, but in: {elsewhere}; "
            f"{region} has {_listed(alternatives(size, region, offers.sizes))}"
        )


def alternatives(like: Size, region: str, sizes: Mapping[str, Size], most: int = 3) -> list[Size]:
    """The cheapest sizes in that region with no less of anything."""
    enough = [
        size
        for size in sizes.values()
        if size.available
        and not size.has_gpu
        and region in size.regions
        and size.memory_mb >= like.memory_mb
        and size.vcpus >= like.vcpus
        and size.disk_gb >= like.disk_gb
    ]
    return sorted(enough, key=lambda size: (size.price_hourly, size.slug))[:most]


def _listed(sizes: Sequence[Size]) -> str:
    return " or ".join(map(str, sizes)) or "nothing like it"
