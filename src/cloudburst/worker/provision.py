"""Payloads on this node: fetched, unpacked, their environments built, in threads beside the worker's loop."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import redis

from cloudburst import names
from cloudburst.config import WorkerConfig, payload_settings
from cloudburst.errors import BuildError, CloudburstError, ConfigError, NoRoomError, PayloadError
from cloudburst.filestore.client import FileStore
from cloudburst.model import Provenance
from cloudburst.rqwire.builds import Builds
from cloudburst.worker import environment, interpreters, system_packages
from cloudburst.worker.current import Current
from cloudburst.worker.dependencies import Pipfile
from cloudburst.worker.environment import Recipe
from cloudburst.worker.keeping import Keeping
from cloudburst.worker.locking import Locking
from cloudburst.worker.payloads import Payloads
from cloudburst.worker.room import Room
from cloudburst.worker.runtime import Runtime, Unusable
from cloudburst.worker.sharing import Sharing
from cloudburst.worker.stored import Stored
from cloudburst.worker.tools import Tools

log = logging.getLogger(__name__)

FORGIVE_S = 30.0
"""A payload that could not be made ready is tried again for jobs that come so much later."""

MAKING_ROOM_S = 10.0
"""How long a preparation that found the disk full waits for what is not in use to be removed."""

FRESH_S = 5.0
"""What was asked for so recently is not evicted: a job that needs it may just be on its way."""

Note = Callable[[str, str], None]
"""Called with an ensemble's id and what is being done for it; from any thread."""


@dataclass
class _Preparation:
    """A payload on its way; ``result`` is set once, at the end."""

    ensembles: set[str]
    result: Runtime | Unusable | None = None
    ended_at: float = 0.0
    asked_at: float = 0.0
    environment: str = ""
    """Digest of the environment, once it is known."""


class Provisioner:
    """Answers at once what is ready, and calls when something has become ready."""

    def __init__(
        self,
        config: WorkerConfig,
        environ: Mapping[str, str],
        builds: Builds,
        *,
        called: Callable[[], None],
        note: Note,
    ) -> None:
        self._store = FileStore(config.filestore_url, config.filestore_token, ca_file=config.ca_file)
        self._payloads_dir = config.state_dir / "payloads"
        self._environments_dir = config.state_dir / "environments"
        self._builds = builds
        self._node = config.node
        self._who = f"{config.node}:{config.state_dir}"
        self._image = config.image
        self._environ = environ
        self._called = called
        self._note = note
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._preparations: dict[str, _Preparation] = {}
        self._crowded = threading.Event()
        """A preparation waits for room on the disk."""
        self._cleared = threading.Event()
        self._current = Current(self._store, called=called)
        for directory in (self._payloads_dir, self._environments_dir):
            directory.mkdir(parents=True, exist_ok=True)
        self._payloads = Payloads(
            self._store,
            self._payloads_dir,
            Room(self._payloads_dir, config.node),
            protect=not config.executor_uids,
        )
        locks_dir = self._environments_dir / "locks"
        self._locking = Locking(self._store, builds, locks_dir, patience_s=config.lease_s)
        stored = Stored(self._store, self._environments_dir, config.node)
        self._sharing = Sharing(
            stored, builds, self._environments_dir, node=config.node, patience_s=config.lease_s
        )
        limit_bytes = int(config.environments_gb * 1e9)
        self._keeping = Keeping(self._payloads_dir, self._environments_dir, limit_bytes)
        self._keeping.leftovers()
        self._thread(self._take_stock)

    def _take_stock(self) -> None:
        self._keeping.clear()
        self._keeping.measure()

    def get(self, payload: str, ensemble: str = "", *, since: float = 0.0) -> Runtime | Unusable | None:
        """The payload of that digest; None while it is being prepared.

        "" is the worker.zip that was current at ``since`` (monotonic seconds) or later.
        """
        if not payload:
            current = self._current.digest(since)
            if current is None or isinstance(current, Unusable):
                return current
            payload = current
        with self._lock:
            preparation = self._preparations.get(payload)
            if preparation is not None and self._stands(preparation):
                preparation.ensembles |= {ensemble} if ensemble else set()
                preparation.asked_at = time.monotonic()
                return preparation.result
            preparation = _Preparation({ensemble} if ensemble else set())
            self._preparations[payload] = preparation
        self._thread(lambda: self._prepare(payload, preparation))
        return None

    def asks(self, payload: str, since: float) -> bool:
        """Whether it will be known in a moment which payload that is."""
        return not payload and self._current.asks(since)

    def close(self) -> None:
        """Stop builds that are under way."""
        self._stop.set()
        self._current.close()

    @staticmethod
    def _stands(preparation: _Preparation) -> bool:
        failed = isinstance(preparation.result, Unusable)
        return not failed or time.monotonic() - preparation.ended_at < FORGIVE_S

    @staticmethod
    def _thread(target: Callable[[], None]) -> None:
        threading.Thread(target=target, name="provision", daemon=True).start()

    @property
    def bytes_kept(self) -> int:
        """What payloads and environments take on this node's disk."""
        return self._keeping.bytes_kept

    @property
    def has_room(self) -> bool:
        """Whether the disk may take more than what is needed now."""
        return self._keeping.has_room

    @property
    def crowded(self) -> bool:
        """Whether a preparation waits for room: then only what jobs run with is in use."""
        return self._crowded.is_set()

    def evict(self, in_use: Collection[str], *, crowded: bool) -> set[str]:
        """Remove what was not used for longest, if there is too much, but nothing that these payloads need.

        ``crowded``: remove everything else. Returns the payloads that are not ready any more. Called by the
        thread that calls ``get``: so nobody gets a Runtime whose files are being taken away.
        """
        fresh = math.inf if crowded else time.monotonic() - FRESH_S
        with self._lock:
            busy = {
                payload
                for payload, preparation in self._preparations.items()
                if payload in in_use or preparation.result is None or preparation.asked_at > fresh
            }
            gone = self._keeping.evict(self._paths(busy), all_of_it=crowded)
            lost = {payload for payload in self._preparations if not gone.isdisjoint(self._paths({payload}))}
            for payload in lost:
                del self._preparations[payload]
        if crowded:
            self._crowded.clear()
        if gone or crowded:
            self._thread(self._clear)
        return lost

    def _clear(self) -> None:
        self._keeping.clear()
        self._cleared.set()

    def _make_room(self, note: Callable[[str], None]) -> None:
        """Wait until everything that is not in use has been removed."""
        note("the disk is full; removing what is not in use")
        self._cleared.clear()
        self._crowded.set()
        self._called()
        self._cleared.wait(MAKING_ROOM_S)

    def _paths(self, payloads: Iterable[str]) -> set[Path]:
        """Everything on the disk that these payloads need."""
        paths = {self._environments_dir / digest for digest in self._sharing.packing()}
        for payload in payloads:
            preparation = self._preparations[payload]
            paths.add(self._payloads_dir / payload)
            if preparation.environment:
                paths.add(self._environments_dir / preparation.environment)
            if preparation.result is None:
                paths.add(self._keeping.cache)
        return paths

    # -- making one ready ------------------------------------------------------------------------------

    def _prepare(self, payload: str, preparation: _Preparation) -> None:
        def note(text: str) -> None:
            if text:
                log.info("payload %.12s: %s", payload, text)
            for ensemble in list(preparation.ensembles):
                self._note(ensemble, f"{self._node}: {text}" if text else "")

        result: Runtime | Unusable
        try:
            try:
                result = self._runtime(payload, preparation, note)
            except NoRoomError:
                self._make_room(note)
                result = self._runtime(payload, preparation, note)
        except NoRoomError as error:
            result = Unusable(error.args[0], error.tail, self._without_room(payload))
        except BuildError as error:
            result = Unusable(error.args[0], error.tail)
        except CloudburstError as error:
            result = Unusable(str(error), "")
        except environment.BuildStopped:
            return
        except Exception as error:
            log.exception("payload %.12s cannot be prepared", payload)
            result = Unusable(f"the payload cannot be prepared on {self._node}: {error}", "")
        if isinstance(result, Unusable):
            log.warning("payload %.12s: %s", payload, result.error)
        with self._lock:
            preparation.result = result
            preparation.ended_at = preparation.asked_at = time.monotonic()
            paths = self._paths({payload})
        # A node that has no room says so for as long as others work on it.
        note(result.error if isinstance(result, Unusable) and result.workers else "")
        self._called()
        self._keeping.measure(*paths, self._keeping.cache)

    def _without_room(self, payload: str) -> int:
        """How many workers had no room for that payload lately, this one too."""
        try:
            return self._builds.without_room(payload, self._who)
        except redis.RedisError as error:
            log.warning("cannot tell that there is no room for payload %.12s: %s", payload, error)
            return 1

    def _runtime(self, payload: str, preparation: _Preparation, note: Callable[[str], None]) -> Runtime:
        directory = self._payloads.fetched(payload, note, self._stop)
        try:
            settings = payload_settings(directory)
        except ConfigError as error:
            raise PayloadError(str(error)) from error
        system_packages.check(settings.apt, self._environ)
        pipfile = Pipfile.of(directory)
        interpreter = interpreters.find(pipfile.python, self._environ)
        tools = Tools.of(self._environ, self._environments_dir, note, self._stop)
        lock = self._locking.lock(payload, pipfile, interpreter, tools)
        recipe = Recipe(pipfile, lock, interpreter, tools.options)
        with self._lock:  # before it is looked for: from now on it is not evicted
            preparation.environment = recipe.digest
        built = self._sharing.environment(recipe, tools)
        provenance = Provenance(
            payload, built.digest, built.python_version, built.platform, names.VERSION, self._image
        )
        return Runtime(payload, directory, built.python, settings, provenance)
