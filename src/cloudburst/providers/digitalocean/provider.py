"""Makes, lists and removes the machines of stacks at DigitalOcean."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cloudburst.providers.digitalocean.fleet import Fleet, FleetPlan
from cloudburst.providers.digitalocean.resources import Account, Removal, Resource
from cloudburst.providers.provider import Node

END_POINT = "https://api.digitalocean.com/v2/"

Say = Callable[[str], None]


class DigitalOcean:
    """All stacks of one account."""

    def __init__(
        self,
        token: str,
        end_point: str = END_POINT,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        raise NotImplementedError

    def plan(self, fleet: Fleet) -> FleetPlan:
        """What has to be made and removed for that fleet; changes nothing.

        Raises ProviderError with the exact reason why the fleet cannot be had.
        """
        raise NotImplementedError

    def make(self, plan: FleetPlan, public_key: str, say: Say) -> tuple[list[Node], list[str]]:
        """Make what the plan says and wait until every machine is active and has its addresses.

        The stack's nodes (master first; the surplus ones are not among them), and what could not be had.
        Whatever became of an earlier call, a later one completes it and doubles nothing.
        """
        raise NotImplementedError

    def nodes(self, stack: str) -> list[Node]:
        """All droplets of the stack, also those that are off; master first, then by number."""
        raise NotImplementedError

    def remove(self, nodes: Sequence[Node], say: Say) -> None:
        """Remove those machines and wait until they are gone."""
        raise NotImplementedError

    def remove_all(self, stack: str, say: Say) -> Removal:
        """Remove everything of the stack, look again, and raise ProviderError if anything is left."""
        raise NotImplementedError

    def audit(self) -> list[Resource]:
        """Everything of ours at the account, whatever stack it is of; also what is there without droplets."""
        raise NotImplementedError

    def account(self) -> Account:
        """The account's state and its limits."""
        raise NotImplementedError
