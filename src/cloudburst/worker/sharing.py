"""Environments that one worker builds and the others fetch, by way of the file store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import redis

from cloudburst.errors import BuildError, FileStoreError
from cloudburst.rqwire.builds import Builds, Lease
from cloudburst.worker import environment
from cloudburst.worker.environment import Environment, Recipe
from cloudburst.worker.once import Once
from cloudburst.worker.room import Room, says_full
from cloudburst.worker.stored import Stored
from cloudburst.worker.tools import Tools

log = logging.getLogger(__name__)


class Sharing:
    """Gives every recipe its environment on this node, built here only if no other worker has built it."""

    def __init__(
        self, stored: Stored, builds: Builds, environments_dir: Path, *, node: str, patience_s: float
    ) -> None:
        """Redis may be away for ``patience_s`` before it is done without."""
        self._stored = stored
        self._builds = builds
        self._dir = environments_dir
        self._room = Room(environments_dir, node)
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._packing: set[str] = set()

    def environment(self, recipe: Recipe, tools: Tools) -> Environment:
        """Where it is on this node already, neither Redis nor the file store is waited for.

        Raises BuildError, also if another worker found that it cannot be built, and BuildStopped.
        """
        here = environment.complete(self._dir, recipe.digest, recipe.interpreter)
        if here is not None:
            _aside(lambda: self._share_if_missing(here))
            return here
        once = Once(
            self._builds,
            self._patience_s,
            "the environment",
            find=lambda: self._stored.fetch(recipe, tools),
            make=lambda: self._build(recipe, tools),
            # Aside: the first job need not wait until it is packed.
            share=lambda built, lease: _aside(lambda: self._share(built, lease)),
        )
        return once.get(_key(recipe.digest), tools)

    def packing(self) -> set[str]:
        """Digests of the environments that are being packed at this moment."""
        with self._lock:
            return set(self._packing)

    def _build(self, recipe: Recipe, tools: Tools) -> Environment:
        try:
            with self._room.explained():
                return environment.build(recipe, self._dir, tools)
        except BuildError as error:
            if says_full(error.tail):
                raise self._room.error(tail=error.tail) from error
            raise

    def _share(self, built: Environment, lease: Lease | None) -> None:
        """Store it, and end the lease; jobs run in it meanwhile."""
        with self._lock:
            self._packing.add(built.digest)
        try:
            # Whoever has lost the lease may have been overtaken.
            if not (lease is None or lease.lost) or not self._stored.has(built.digest):
                self._stored.put(built)
        except (FileStoreError, OSError) as error:
            log.warning("environment %.12s stays on this node: %s", built.digest, error)
            if lease is not None:
                lease.unshared()
        else:
            if lease is not None:
                lease.release()
        finally:
            with self._lock:
                self._packing.discard(built.digest)

    def _share_if_missing(self, here: Environment) -> None:
        """Make good that it was not stored when it was built: this worker was killed, or nobody answered."""
        try:
            if not self._stored.has(here.digest):
                lease = self._builds.take(_key(here.digest))
                if isinstance(lease, Lease):
                    self._share(here, lease)
        except (FileStoreError, redis.RedisError) as error:
            log.info("environment %.12s may not be in the file store: %s", here.digest, error)


def _key(digest: str) -> str:
    return f"environment-{digest}"


def _aside(target: Callable[[], None]) -> None:
    threading.Thread(target=target, name="share", daemon=True).start()
