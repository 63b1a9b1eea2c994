"""Droplets as nodes: listed, and removed until they are gone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from cloudburst.errors import ProviderError
from cloudburst.pace import duration
from cloudburst.providers.digitalocean.api import Api
from cloudburst.providers.digitalocean.fleet import in_order
from cloudburst.providers.digitalocean.resources import TAG, stack_tag
from cloudburst.providers.provider import Node

GONE_POLL_S = 3.0
GONE_LIMIT_S = 600.0

ASK_AGAIN_S = 30.0
"""A droplet that is still there so long after it was removed is removed again."""


def unix_time(said: Any) -> float:
    """Unix time of ``2026-11-21T14:26:00Z``; 0 for anything else."""
    try:
        return datetime.fromisoformat(str(said)).timestamp()
    except ValueError:
        return 0.0


def node_of(droplet: Mapping[str, Any], stack: str) -> Node:
    """A droplet in the words of providers."""
    addresses = {
        network.get("type"): network.get("ip_address") or ""
        for network in (droplet.get("networks") or {}).get("v4") or []
    }
    return Node(
        stack=stack,
        name=str(droplet["name"]),
        address=addresses.get("public", ""),
        private_address=addresses.get("private", ""),
        identity=str(droplet["id"]),
        state=str(droplet.get("status") or "new"),
        size=str(droplet.get("size_slug") or (droplet.get("size") or {}).get("slug") or ""),
        region=str((droplet.get("region") or {}).get("slug") or ""),
        price_hourly=float((droplet.get("size") or {}).get("price_hourly") or 0.0),
        created_at=unix_time(droplet.get("created_at")),
        price_monthly=float((droplet.get("size") or {}).get("price_monthly") or 0.0),
    )


def stack_of(tags: Iterable[str]) -> str:
    """The stack whose tag is among these, "" if none is."""
    return next((tag.removeprefix(f"{TAG}:") for tag in tags if tag.startswith(f"{TAG}:")), "")


class Droplets:
    """The droplets of one account."""

    def __init__(self, api: Api, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._api = api
        self._sleep = sleep
        self._clock = clock
        self._may_have_gpus = True

    def of(self, stack: str) -> list[Node]:
        """All that carry the stack's tag, in order."""
        return in_order(stack, (node_of(droplet, stack) for droplet in self.tagged(stack_tag(stack))))

    def tagged(self, tag: str) -> list[dict[str, Any]]:
        """All that carry the tag.

        Those with a GPU are in a list of their own, which takes no tag. CloudBurst makes none, so where there
        is none of ours at the first look, there is none later, and further looks are one call.
        """
        found = self._api.everything("droplets", "droplets", tag_name=tag)
        if self._may_have_gpus:
            found += [droplet for droplet in self._gpus() if tag in (droplet.get("tags") or [])]
        return found

    def all(self) -> list[dict[str, Any]]:
        """All of the account, whoever made them."""
        return self._api.everything("droplets", "droplets") + self._gpus()

    def _gpus(self) -> list[dict[str, Any]]:
        found = self._api.everything("droplets", "droplets", type="gpus")
        self._may_have_gpus = any(TAG in (droplet.get("tags") or []) for droplet in found)
        return found

    def remove(self, stack: str, identities: Collection[str], say: Callable[[str], None]) -> None:
        """Remove those, and wait until the stack has none of them any more.

        One that is still being made may be refused for a while: it is asked for again. ProviderError if any
        is still there after ten minutes, and at once if the token may not remove droplets.
        """
        left = set(identities)
        started = self._clock()
        accepted_at: dict[str, float] = {}
        reason = "it is still there"
        while left:
            for identity in sorted(left, key=int):
                if self._clock() - accepted_at.get(identity, float("-inf")) < ASK_AGAIN_S:
                    continue
                try:
                    self._api.delete(f"droplets/{identity}")
                    accepted_at[identity] = self._clock()
                except ProviderError as error:
                    if error.status not in {409, 422}:
                        raise
                    reason = error.reason or str(error)
            now_there = {node.identity: node.name for node in self.of(stack)}
            gone = left - set(now_there)
            left -= gone
            if not left:
                return
            names = ", ".join(sorted(now_there[identity] for identity in left))
            if gone:
                say(f"waiting until {names} {'is' if len(left) == 1 else 'are'} gone")
            waited_s = self._clock() - started
            if waited_s > GONE_LIMIT_S:
                raise ProviderError(
                    f"DigitalOcean did not remove {names} within {duration(waited_s)} ({reason}): it costs "
                    "money until it is gone; run the same command again, or remove it at "
                    "https://cloud.digitalocean.com/droplets"
                )
            self._sleep(GONE_POLL_S)
