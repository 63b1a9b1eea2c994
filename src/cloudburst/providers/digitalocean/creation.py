"""Making the machines of a plan: each once, whatever happens to the calls, and none that does not start."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloudburst.errors import ProviderError
from cloudburst.pace import duration
from cloudburst.providers.digitalocean.api import Api, UncertainError
from cloudburst.providers.digitalocean.certainly import ATTEMPTS, LOOK_WAITS_S
from cloudburst.providers.digitalocean.droplets import Droplets
from cloudburst.providers.digitalocean.fleet import Fleet, FleetPlan, NewNode, in_order
from cloudburst.providers.digitalocean.resources import TAG, stack_tag
from cloudburst.providers.provider import Node

log = logging.getLogger(__name__)

Say = Callable[[str], None]

BATCH = 10
"""The most names that one call takes."""

POLL_S = 5.0
"""One call asks for all machines at once."""

START_LIMIT_S = 600.0
"""A droplet takes 30 to 60 s; one that is not there after so long will not come."""

SUSPECT_S = 60.0
"""From here on, a machine that is still new is asked whether its creation has failed, every so often."""

SAY_S = 30.0

KEY_WAITS_S = (2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
"""Before a call that was refused because of its key: one that was made just now is known a little later."""

_UNKNOWN_KEY = "invalid key identifiers"


@dataclass
class _Watched:
    """The machines of one call, by name; identities are the provider's."""

    identities: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, str] = field(default_factory=dict)
    """Of those that may be replaced: they have never served."""
    ready: dict[str, Node] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Creation:
    """Makes machines in one stack."""

    def __init__(
        self,
        api: Api,
        droplets: Droplets,
        fleet: Fleet,
        *,
        vpc: str,
        key: int,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._droplets = droplets
        self._fleet = fleet
        self._vpc = vpc
        self._key = key
        self._sleep = sleep
        self._clock = clock

    def carry_out(self, plan: FleetPlan, say: Say) -> tuple[list[Node], list[str]]:
        """The machines that are active and have their addresses, master first, and what failed.

        One that fails is removed and made once more. ProviderError when there is no master in the end, or the
        token may not make machines.
        """
        stack = self._fleet.stack
        before = {node.identity for node in (*plan.keep, *plan.surplus)}
        now = _Watched(
            identities={node.name: node.identity for node in plan.keep},
            sizes={node.name: node.size for node in plan.keep if node.state == "new"},
        )
        self._order(plan.make, now, before, say)
        failed = self._wait(now, say)
        if failed:
            say(f"{_and(failed)}: making {'it' if len(failed) == 1 else 'them'} once more")
            again = self._removed(failed, now, say)
            before |= {identity for identity, _ in failed.values()}
            self._order(again, now, before, say)
            for name, (identity, reason) in self._wait(now, say).items():
                now.problems.append(f"{name} could not be made: {reason}, twice; it was removed again")
                self._droplets.remove(stack, [identity], say)
        self._remove_doubles(now, before, say)
        if self._fleet.master not in now.ready:
            raise ProviderError(
                f"there is no master: {'; '.join(now.problems) or 'it does not start'}; "
                "run the same command again, or -d to remove what there is"
            )
        return in_order(stack, now.ready.values()), now.problems

    def _order(self, new: Sequence[NewNode], now: _Watched, before: set[str], say: Say) -> None:
        """Ask for machines. What is refused is a problem, or raised if the stack is nothing without it."""
        for size, names in _batches(new):
            say(f"making {_listed(names)} ({size}, {self._fleet.region})")
            now.sizes |= dict.fromkeys(names, size)
            try:
                self._order_batch(size, names, now.identities, before)
            except ProviderError as error:
                if error.status in {401, 403} or (
                    self._fleet.master in names and self._fleet.master not in now.identities
                ):
                    raise
                missing = [name for name in names if name not in now.identities]
                now.problems.append(f"{_listed(missing)} could not be made: {error}")
                say(now.problems[-1])

    def _order_batch(
        self, size: str, names: Sequence[str], identities: dict[str, str], before: set[str]
    ) -> None:
        """Machines whose call was lost are looked for, by tag and name, before they are asked for again."""
        for name in names:
            identities.pop(name, None)
        image = self._fleet.image
        body = {
            "region": self._fleet.region,
            "size": size,
            "image": int(image) if image.isdecimal() else image,
            "ssh_keys": [self._key],
            "vpc_uuid": self._vpc,
            "tags": [TAG, stack_tag(self._fleet.stack)],
        }
        missing = list(names)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                made = self._post({"names": missing, **body}).get("droplets") or []
                identities |= {str(droplet["name"]): str(droplet["id"]) for droplet in made}
            except UncertainError as error:
                log.info("%s; looking whether it was executed", error)
                for wait_s in LOOK_WAITS_S:
                    self._sleep(wait_s)
                    found = [node for node in self._found(missing) if node.identity not in before]
                    for node in found:
                        identities.setdefault(node.name, node.identity)
                    if all(name in identities for name in missing):
                        break
                if attempt == ATTEMPTS and any(name not in identities for name in missing):
                    raise
            missing = [name for name in missing if name not in identities]
            if not missing:
                return
        raise ProviderError(f"DigitalOcean accepted the call for {_listed(missing)} and made nothing")

    def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for droplets, and again for a while if the API does not know the key yet."""
        for wait_s in KEY_WAITS_S:
            try:
                return self._api.post("droplets", body)
            except ProviderError as error:
                if error.status != 422 or _UNKNOWN_KEY not in error.reason:
                    raise
                log.info("%s; trying again in %g s", error, wait_s)
            self._sleep(wait_s)
        return self._api.post("droplets", body)

    def _found(self, names: Iterable[str]) -> list[Node]:
        wanted = set(names)
        return [node for node in self._droplets.of(self._fleet.stack) if node.name in wanted]

    def _wait(self, now: _Watched, say: Say) -> dict[str, tuple[str, str]]:
        """Until every machine is ready or has failed; identity and reason of those that failed."""
        started = asked = said = self._clock()
        failed: dict[str, tuple[str, str]] = {}
        last = -1
        while True:
            there = {node.identity: node for node in self._droplets.of(self._fleet.stack)}
            waited_s = self._clock() - started
            left = {name: identity for name, identity in now.identities.items() if name not in now.ready}
            is_time_to_ask = waited_s >= SUSPECT_S and self._clock() - asked >= SUSPECT_S / 2
            asked = self._clock() if is_time_to_ask else asked
            for name, identity in left.items():
                node = there.get(identity)
                if node and node.state == "active" and node.address and node.private_address:
                    now.ready[name] = node
                    continue
                reason = self._failure(identity, node, waited_s, is_time_to_ask)
                if not reason:
                    continue
                del now.identities[name]
                if name in now.sizes:
                    failed[name] = (identity, reason)
                else:
                    now.problems.append(f"{name}: {reason}")
            total = len(now.identities)
            if len(now.ready) != last or self._clock() - said >= SAY_S:
                last, said = len(now.ready), self._clock()
                if total:
                    say(f"{last} of {total + len(failed)} machines are ready ({duration(waited_s)})")
            if last == total:
                return failed
            self._sleep(POLL_S)

    def _failure(self, identity: str, node: Node | None, waited_s: float, ask: bool) -> str:
        """Why that machine will not come; "" while it may."""
        if node is None:
            return "it has disappeared" if waited_s >= SUSPECT_S else ""
        if node.state in {"off", "archive"}:
            return f"it is {node.state}"
        if ask and node.state == "new" and self._has_erred(identity):
            return "DigitalOcean failed to create it"
        if waited_s < START_LIMIT_S:
            return ""
        what = "active" if node.state == "new" else "given its addresses"
        return f"it was not {what} within {duration(waited_s)}"

    def _has_erred(self, identity: str) -> bool:
        try:
            actions = self._api.get(f"droplets/{identity}/actions").get("actions") or []
        except ProviderError as error:
            if error.status != 404:
                raise
            return False
        return any(_is_failed_creation(action) for action in actions)

    def _removed(self, failed: Mapping[str, tuple[str, str]], now: _Watched, say: Say) -> list[NewNode]:
        """What is to be made instead of those, which are gone by then."""
        self._droplets.remove(self._fleet.stack, [identity for identity, _ in failed.values()], say)
        return [NewNode(name, now.sizes[name], 0.0) for name in failed]

    def _remove_doubles(self, now: _Watched, before: set[str], say: Say) -> None:
        """A call that was taken for lost may have been executed late: its machines have never served."""
        ours = {*now.identities.values(), *before}
        doubles = [node for node in self._found(now.sizes) if node.identity not in ours]
        if doubles:
            say(f"{_listed(node.name for node in doubles)}: made twice, removing the second")
            self._droplets.remove(self._fleet.stack, [node.identity for node in doubles], say)


def _batches(new: Sequence[NewNode]) -> Iterator[tuple[str, list[str]]]:
    """Machines that one call can make: of one size, ten at most; the master is in the first."""
    for size in dict.fromkeys(node.size for node in new):
        names = [node.name for node in new if node.size == size]
        for first in range(0, len(names), BATCH):
            yield size, names[first : first + BATCH]


def _is_failed_creation(action: Mapping[str, Any]) -> bool:
    return action.get("type") == "create" and action.get("status") == "errored"


def _and(failed: Mapping[str, tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {reason}" for name, (_, reason) in failed.items())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
