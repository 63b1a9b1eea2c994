"""What a stack has at DigitalOcean, in the words of the provider."""

from __future__ import annotations

from dataclasses import dataclass

from cloudburst.providers.digitalocean import billing

TAG = "cloudburst"
"""Every droplet of every stack carries it."""


def stack_tag(stack: str) -> str:
    """The tag that the droplets of one stack carry, and by which its firewall finds them."""
    return f"{TAG}:{stack}"


def stack_name(stack: str) -> str:
    """The name of the stack's VPC, firewall and SSH key."""
    return f"{TAG}-{stack}"


@dataclass(frozen=True)
class Resource:
    """Something of ours at the account, whatever stack it is of."""

    kind: str
    """``droplet``, ``firewall``, ``VPC``, ``SSH key`` or ``tag``."""
    stack: str
    name: str
    identity: str
    created_at: float = 0.0
    """Unix time in seconds; 0 if the provider does not say it."""
    price_hourly: float = 0.0
    """US dollars."""
    state: str = ""
    """Of a droplet: ``new``, ``active``, ``off`` or ``archive``."""
    price_monthly: float = 0.0
    """US dollars that it costs in a month at most; 0: not known."""

    def cost(self, now: float) -> float:
        """US dollars since it was created. ``now``: Unix time in seconds."""
        return billing.cost(self.created_at, now, self.price_hourly, self.price_monthly)


@dataclass(frozen=True)
class Removal:
    """What was taken away, and what it had cost."""

    removed: tuple[Resource, ...]
    cost: float
    """US dollars, from the creation of each droplet until it was gone."""


@dataclass(frozen=True)
class Account:
    """Whose machines these are, and how many there may be."""

    status: str
    """``active``, ``warning`` or ``locked``."""
    status_message: str
    email_verified: bool
    droplet_limit: int
