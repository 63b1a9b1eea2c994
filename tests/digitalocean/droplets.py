"""Droplets, what they run on, and how long things take with them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass
class Times:
    """How long things take, in seconds of the account's clock."""

    boot_s: float = 0.0
    """From the POST until a droplet is active: 30 to 60 at the real one."""
    address_s: float = 0.0
    """From the POST until a droplet has its addresses; may be longer than ``boot_s``."""
    listed_s: float = 0.0
    """From the POST until a droplet is in lists; by its number it is found at once."""
    delete_s: float = 0.0
    """From the DELETE of a droplet until it is listed no more."""
    key_s: float = 0.0
    """How long after it was made a key is unknown to who makes droplets."""
    member_s: float = 0.0
    """How much longer a VPC counts a deleted droplet as a member."""


@dataclass
class Droplet:
    id: int
    name: str
    region: str
    size: Json
    image: Json
    tags: list[str]
    vpc: str
    keys: list[str]
    """Public keys, whole."""
    user_data: str
    created_at: float
    address: str = ""
    private_address: str = ""
    powered: bool = True
    broken: bool = False
    deleted_at: float | None = None
    action: int = 0


class Hardware(Protocol):
    """What droplets run on. Called with the account's lock held: anything slow is begun only."""

    network: str
    """The addresses that its VPC has to have; "": any."""

    def make(self, droplet: Droplet) -> None:
        """Begin to boot it; sets its addresses, now or later."""

    def ready(self, droplet: Droplet) -> bool: ...

    def power(self, droplet: Droplet, *, on: bool) -> None: ...

    def remove(self, droplet: Droplet) -> None: ...

    def gone(self, droplet: Droplet) -> bool: ...


class Records:
    """Hardware that is none: addresses from ranges that nobody has."""

    network = ""

    def __init__(self) -> None:
        self._last = itertools.count(1)

    def make(self, droplet: Droplet) -> None:
        number = next(self._last)
        droplet.address = f"203.0.{112 + number // 250}.{number % 250 + 1}"
        droplet.private_address = ""

    def ready(self, droplet: Droplet) -> bool:
        return True

    def power(self, droplet: Droplet, *, on: bool) -> None: ...

    def remove(self, droplet: Droplet) -> None: ...

    def gone(self, droplet: Droplet) -> bool:
        return True
