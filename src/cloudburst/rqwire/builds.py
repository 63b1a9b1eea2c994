"""Who builds what: of the workers that need the same thing, one has a lease on building it.

The others look here until it is built, until they learn that it cannot be, or until its builder is gone.
Nothing else depends on the lease: whoever builds without one (because Redis is away, or because it was paused
for longer than its lease) makes the same thing once more, which costs time and does no harm.
"""

from __future__ import annotations

import logging
import threading
import uuid
from dataclasses import dataclass
from typing import Literal, cast

import redis

from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.scripts import Scripts

log = logging.getLogger(__name__)

State = Literal["building", "failed", "unshared"]
"""``unshared``: it was built, but is to be had on that node alone."""

TOLD_S = 30.0
"""For so long others learn that a build has failed, or that what was built could not be shared."""

FULL_S = 90
"""A worker that had no room for something is counted for so long; it tries again before that."""


@dataclass(frozen=True)
class Elsewhere:
    """What another worker has said about its build."""

    state: State
    node: str
    error: str = ""
    tail: str = ""
    """Why it failed: one line, and the last lines of the tool."""


class Lease:
    """The right to build one thing; extended in a thread until it is released, or cannot be."""

    def __init__(self, scripts: Scripts, what: str, token: str, lease_s: float) -> None:
        self._scripts = scripts
        self._what = what
        self._token = token
        self._lease_s = lease_s
        self._ended = threading.Event()
        self._lost = threading.Event()
        threading.Thread(target=self._extend, name="build-lease", daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether another may have it by now: this process was paused, or Redis was away."""
        return self._lost.is_set()

    def release(self) -> None:
        """It is built and where others find it, or should be built by another."""
        self._end("building", 0.0)

    def failed(self, error: str, tail: str) -> None:
        """It cannot be built, here or elsewhere."""
        self._end("failed", TOLD_S, error, tail)

    def unshared(self) -> None:
        """It is built, but could not be put where others find it: each may build its own at once."""
        self._end("unshared", TOLD_S)

    def _extend(self) -> None:
        while not self._ended.wait(self._lease_s / 3):
            try:
                if not self._change("building", self._lease_s):
                    break
            except redis.RedisError as error:
                log.warning("cannot extend the lease on building %s: %s", self._what, error)
        if not self._ended.is_set():
            log.warning("the lease on building %s is gone: another worker may build it too", self._what)
            self._lost.set()

    def _end(self, state: str, told_s: float, error: str = "", tail: str = "") -> None:
        self._ended.set()
        try:
            self._change(state, told_s, error, tail)
        except redis.RedisError as reason:
            log.warning("cannot tell how building %s went: %s", self._what, reason)

    def _change(self, state: str, life_s: float, error: str = "", tail: str = "") -> bool:
        life_ms = int(life_s * 1000)
        return bool(self._scripts("build_change", self._what, self._token, state, life_ms, error, tail))


class Builds:
    """The builds of all workers of one Redis, as the worker on ``node`` takes part in them.

    Calls raise redis.RedisError while Redis is away; those of a Lease do not.
    """

    def __init__(self, client: Redis, node: str, lease_s: float) -> None:
        self._redis = client
        self._scripts = Scripts(client)
        self._node = node
        self._lease_s = lease_s

    def take(self, what: str) -> Lease | Elsewhere:
        """The lease on building ``what``, or what stands in the way of having it."""
        token = uuid.uuid4().hex
        found = self._scripts("build_take", what, token, self._node, int(self._lease_s * 1000))
        if not found:
            return Lease(self._scripts, what, token, self._lease_s)
        return _elsewhere(found)

    def without_room(self, what: str, who: str) -> int:
        """Note that the worker ``who`` has no room for it; how many workers had none lately."""
        key = f"cb:full:{what}"
        with self._redis.pipeline() as pipe:
            pipe.sadd(key, who)
            pipe.expire(key, FULL_S)
            pipe.scard(key)
            return int(pipe.execute()[-1])

    def look(self, what: str) -> Elsewhere | None:
        """What another worker says about building it; None when none has the lease."""
        fields = ["state", "node", "error", "tail"]
        found = cast("list[bytes | None]", self._redis.hmget(f"cb:build:{what}", fields))
        return None if found[0] is None else _elsewhere(found)


def _elsewhere(found: list[bytes | None]) -> Elsewhere:
    state, node, error, tail = ((part or b"").decode(errors="replace") for part in found)
    return Elsewhere(cast(State, state), node, error, tail)
