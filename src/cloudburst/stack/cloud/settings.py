"""Which machines a stack is to have: what was said this time, over what was said last time."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from cloudburst.errors import ConfigError
from cloudburst.providers.digitalocean.fleet import Fleet
from cloudburst.stack.cloud.quantities import per_hour, seconds
from cloudburst.stack.paths import read_text, write_private

STACK_NAME = "cloud"
"""Name of a stack that is given no other."""

ANYWHERE = ("0.0.0.0/0", "::/0")
"""Who is let in while it is found out how our address looks to the machines."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
"""Names of machines begin with the stack's; host names are of such letters."""

_DEFAULT = Fleet(stack="", nodes=0)


@dataclass(frozen=True)
class Leaving:
    """A machine that we have begun to remove. Times are Unix times in seconds, prices US dollars."""

    identity: str
    created_at: float
    price_hourly: float
    price_monthly: float
    asked_at: float
    """When: until then it is billed at least."""


@dataclass(frozen=True)
class Settings:
    """What is wanted of the provider, kept in ``fleet.json``. Never the token."""

    nodes: int
    """Compute nodes beside the master; on 0 the master runs jobs itself."""
    size: str = _DEFAULT.size
    master_size: str = _DEFAULT.master_size
    region: str = _DEFAULT.region
    image: str = _DEFAULT.image
    allow: tuple[str, ...] = ()
    """Who may reach the stack, as CIDRs; empty: the address from which it was last deployed."""
    caller: tuple[str, ...] = ()
    """That address, as the master sees it; empty until the first contact."""
    max_cost_hourly: float = 0.0
    """US dollars; a plan above it is refused. 0: no limit."""
    ttl_s: float = 0.0
    """The stack ends itself so long after its creation; 0: never."""
    idle_s: float = 0.0
    """The stack ends itself when it has had no work for so long; 0: never."""
    min_nodes: int = 0
    max_nodes: int = 0
    """Bounds of an elastic stack; 0 as the upper: it is not elastic."""
    save_to: str = ""
    """Directory here, into which a client that is watching saves results before the stack ends itself."""
    spent: float = 0.0
    """US dollars for machines of the stack that are gone already."""
    leaving: tuple[Leaving, ...] = ()
    """Written before they are removed, so that their cost is known whatever happens to us."""
    ending: bool = False
    """-d has begun."""

    def fleet(self, stack: str) -> Fleet:
        """What to ask of the provider."""
        return Fleet(
            stack=stack,
            nodes=self.nodes,
            region=self.region,
            size=self.size,
            master_size=self.master_size,
            image=self.image,
            # Until we have logged in once, our address is not known: nobody is let in, but in that moment.
            allow=self.allow or self.caller,
        )

    def save(self, path: Path) -> None:
        """Raises OSError."""
        write_private(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Settings | None:
        """What ``save`` wrote; None when there is nothing (ConfigError when it is something else)."""
        text = read_text(path)
        if not text:
            return None
        try:
            raw = json.loads(text)
            known = {f.name: raw[f.name] for f in fields(cls) if f.name in raw}
            known |= {name: tuple(raw.get(name, ())) for name in ("allow", "caller")}
            return cls(**known | {"leaving": tuple(Leaving(**one) for one in raw.get("leaving", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path}: not what is wanted of a provider ({error}); "
                "remove it, and say all flags again: the machines are found by their tag"
            ) from error


@dataclass(frozen=True)
class Wishes:
    """What the user said this time; None: nothing, so it stays as it was."""

    nodes: int | None = None
    size: str | None = None
    master_size: str | None = None
    region: str | None = None
    image: str | None = None
    allow: tuple[str, ...] | None = None
    """CIDRs or addresses; ``("auto",)``: the address from which the stack is deployed."""
    max_cost: str | None = None
    """As ``5/h`` or ``50/d``."""
    ttl: str | None = None
    idle: str | None = None
    min_nodes: int | None = None
    max_nodes: int | None = None
    save_to: str | None = None


_READ: dict[str, tuple[str, Callable[[str, str], float]]] = {
    "max_cost": ("max_cost_hourly", per_hour),
    "ttl": ("ttl_s", seconds),
    "idle": ("idle_s", seconds),
}
"""Wishes that are kept as numbers: the setting's name, and how it is read."""


def resolve(stack: str, wishes: Wishes, last: Settings | None) -> Settings:
    """Settings for this time. Raises ConfigError for impossible wishes."""
    if not _NAME.fullmatch(stack):
        raise ConfigError(
            f"--name {stack}: machines are named after their stack, so use at most 40 "
            "small letters, digits and '-'"
        )
    if last is None and wishes.nodes is None:
        raise ConfigError("say how many compute nodes the stack is to have: -n3")
    said = {f.name: getattr(wishes, f.name) for f in fields(wishes) if getattr(wishes, f.name) is not None}
    changes: dict[str, Any] = {}
    for name, value in said.items():
        if name in _READ:
            setting, read = _READ[name]
            changes[setting] = read(value, _flag(name))
        elif name == "allow":
            changes[name] = () if value == ("auto",) else tuple(map(_network, value))
        else:
            changes[name] = value
    now = replace(last or Settings(nodes=0), **changes)
    _check(now)
    return now


def _check(now: Settings) -> None:
    if now.nodes < 0:
        raise ConfigError(f"-n: a stack has 0 compute nodes or more, not {now.nodes}")
    if now.max_nodes and not now.min_nodes <= now.max_nodes:
        raise ConfigError(f"--min {now.min_nodes} is above --max {now.max_nodes}")
    if now.min_nodes and not now.max_nodes:
        raise ConfigError("--min needs --max, the most nodes that there may be")
    if now.region != _DEFAULT.region and not re.fullmatch(r"[a-z]{3}\d", now.region):
        raise ConfigError(f"--region: {now.region!r} is not a region, such as fra1, ams3 or nyc3")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise ConfigError(
            f"--allow: {text!r} is not an address or a network, such as 203.0.113.7 or 203.0.113.0/24; "
            "auto stands for the address from which you deploy"
        ) from None


def known(path: Path, stack: str) -> Settings:
    """What is wanted of a stack that was made from here. Raises ConfigError when there is none."""
    settings = Settings.load(path)
    if settings is None:
        raise ConfigError(f"no stack {stack!r} was made at a provider from here ({path} does not exist)")
    return settings


def name_flag(stack: str) -> str:
    """What to write on the command line to mean this stack, with a blank before it."""
    return "" if stack == STACK_NAME else f" --name {stack}"
