"""What one worker makes and all of them use: found where it is shared, else made under a lease."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import redis

from cloudburst.errors import BuildError, FileStoreError, NoRoomError
from cloudburst.filestore.patience import Unreachable
from cloudburst.rqwire.builds import Builds, Elsewhere, Lease
from cloudburst.worker.tools import BuildStopped, Tools

log = logging.getLogger(__name__)

_LOOK_S = 0.25
"""How often a waiting worker asks Redis how it goes."""

T = TypeVar("T")
U = TypeVar("U")


class Once(Generic[T]):
    """One kind of thing that is made once.

    ``find`` returns a thing that is shared, and None if there is none; FileStoreError when that cannot be
    known. ``make`` makes it here. ``share`` puts what was made where ``find`` finds it, and ends the lease.
    """

    def __init__(
        self,
        builds: Builds,
        patience_s: float,
        what: str,
        *,
        find: Callable[[], T | None],
        make: Callable[[], T],
        share: Callable[[T, Lease | None], None],
    ) -> None:
        """``what`` names it to humans; Redis may be away for ``patience_s`` before it is done without."""
        self._builds = builds
        self._patience_s = patience_s
        self._what = what
        self._find = find
        self._make = make
        self._share = share

    def get(self, key: str, tools: Tools) -> T:
        """The thing that is named ``key`` among all workers.

        BuildError when it cannot be made, also if another worker found that; BuildStopped.
        """
        while True:
            try:
                found = self._find()
            except FileStoreError as error:
                log.warning("making %s on this node alone: %s", self._what, error)
                return self._make()
            if found is not None:
                return found
            turn = self._turn(key, tools)
            if isinstance(turn, Lease):
                return self._with_lease(turn)
            if turn is None:  # Redis is away
                return self._made_and_shared(None)
            if turn.state == "failed":
                log.info("%s has found that %s cannot be made", turn.node, self._what)
                raise BuildError(turn.error, turn.tail)
            if turn.state == "unshared":
                return self._make()
            self._wait(key, turn, tools)

    def _with_lease(self, lease: Lease) -> T:
        try:
            found = self._find()  # it may have come between our last look and the lease
            if found is None:
                return self._made_and_shared(lease)
        except NoRoomError:
            lease.release()
            raise
        except BuildError as error:
            lease.failed(error.args[0], error.tail)
            raise
        except FileStoreError as error:
            log.warning("making %s on this node alone: %s", self._what, error)
            lease.unshared()
            return self._make()
        except BaseException:
            lease.release()
            raise
        lease.release()
        return found

    def _made_and_shared(self, lease: Lease | None) -> T:
        made = self._make()
        self._share(made, lease)
        return made

    def _turn(self, key: str, tools: Tools) -> Lease | Elsewhere | None:
        """Our lease, or what another says; None when Redis stays away."""
        return self._patiently(lambda: self._builds.take(key), tools)

    def _wait(self, key: str, builder: Elsewhere, tools: Tools) -> None:
        """Until the builder has ended, in whatever way."""
        tools.note(f"{builder.node} is making {self._what}; waiting")
        state: Elsewhere | None = builder
        while state is not None and state.state == "building":
            if tools.stop.wait(_LOOK_S):
                raise BuildStopped("the worker shuts down")
            state = self._patiently(lambda: self._builds.look(key), tools)

    def _patiently(self, call: Callable[[], U], tools: Tools) -> U | None:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return call()
            except redis.RedisError as error:
                if time.monotonic() > deadline:
                    log.warning("making %s without a lease, Redis is away: %s", self._what, error)
                    return None
                if tools.stop.wait(_LOOK_S):
                    raise BuildStopped("the worker shuts down") from error


def out_of_reach(error: FileStoreError) -> bool:
    """Whether the file store may answer better later: it is away, or has trouble of its own."""
    return isinstance(error, Unreachable) or error.status >= 500
