"""A stack that is removed by a process on its own master, which goes with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cloudburst.errors import ProviderError
from cloudburst.providers.digitalocean.api import Api
from cloudburst.providers.digitalocean.droplets import Droplets
from cloudburst.providers.digitalocean.network import Network
from cloudburst.providers.digitalocean.resources import stack_tag
from cloudburst.providers.provider import Node


class FromInside:
    """The stacks of one account, as the keeper of one of them sees them. Raises ProviderError."""

    def __init__(
        self,
        token: str,
        end_point: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = Api(token, end_point, sleep=sleep, clock=clock)
        self._droplets = Droplets(self._api, sleep, clock)
        self._network = Network(self._api, sleep, clock)

    def nodes(self, stack: str) -> Sequence[Node]:
        """All droplets of the stack, also those that are off; master first, then by number."""
        return self._droplets.of(stack)

    def remove_from_inside(self, stack: str, own: str, say: Callable[[str], None]) -> None:
        """Remove everything of the stack, and last the machine ``own``, on which this runs.

        What costs most goes first. Then the firewall and the key, since nobody would be there to remove them
        later; then ``own``, whose removal is answered before it stops; and in the moments until then the VPC
        and the tag, which cannot go earlier and cost nothing. A call may be repeated at any time.
        """
        self._network.forget_keys()
        nodes = self._droplets.of(stack)
        others = [node for node in nodes if node.name != own]
        if others:
            say(f"removing {', '.join(node.name for node in others)}")
            self._droplets.remove(stack, [node.identity for node in others], say)
        for firewall in self._network.firewalls(stack):
            say(f"removing the firewall {firewall['name']}")
            self._api.delete(f"firewalls/{firewall['id']}")
        for key in self._network.keys(stack):
            say(f"removing the SSH key {key['name']}")
            self._network.remove_key(key)
        mine = [node.identity for node in nodes if node.name == own]
        if mine:
            say(f"removing {own}, on which this runs; at most a VPC without machines is left then")
            for identity in mine:
                self._api.delete(f"droplets/{identity}")
        for vpc in self._network.vpcs(stack):
            self._network.remove_vpc(vpc)
        if self._droplets.of(stack):
            raise ProviderError(f"{own} was removed, but runs on: it is removed again")
        # Not earlier: without it nobody would find a machine that is there after all.
        self._api.delete(f"tags/{stack_tag(stack)}")
