"""Payloads on this node: fetched, unpacked, their environments built, in threads beside the worker's loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cloudburst import archive, names
from cloudburst.config import WorkerConfig, payload_settings
from cloudburst.errors import BuildError, CloudburstError, ConfigError, FileStoreError, PayloadError
from cloudburst.filestore.client import FileStore
from cloudburst.model import Provenance
from cloudburst.worker import environment, system_packages
from cloudburst.worker.current import Current, passing
from cloudburst.worker.runtime import Runtime, Unusable

log = logging.getLogger(__name__)

FORGIVE_S = 30.0
"""A payload that could not be made ready is tried again for jobs that come so much later."""

Note = Callable[[str, str], None]
"""Called with an ensemble's id and what is being done for it; from any thread."""


@dataclass
class _Preparation:
    """A payload on its way; ``result`` is set once, at the end."""

    ensembles: set[str]
    result: Runtime | Unusable | None = None
    ended_at: float = 0.0


class Provisioner:
    """Answers at once what is ready, and calls when something has become ready."""

    def __init__(
        self, config: WorkerConfig, environ: Mapping[str, str], *, called: Callable[[], None], note: Note
    ) -> None:
        self._store = FileStore(config.filestore_url, config.filestore_token)
        self._payloads_dir = config.state_dir / "payloads"
        self._environments_dir = config.state_dir / "environments"
        self._node = config.node
        self._image = config.image
        self._environ = environ
        self._called = called
        self._note = note
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._preparations: dict[str, _Preparation] = {}
        self._current = Current(self._store, called=called)
        self._payloads_dir.mkdir(parents=True, exist_ok=True)
        self._environments_dir.mkdir(parents=True, exist_ok=True)

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
                return preparation.result
            preparation = _Preparation({ensemble} if ensemble else set())
            self._preparations[payload] = preparation
        self._thread(lambda: self._prepare(payload, preparation))
        return None

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

    # -- making one ready ------------------------------------------------------------------------------

    def _prepare(self, payload: str, preparation: _Preparation) -> None:
        def note(text: str) -> None:
            log.info("payload %.12s: %s", payload, text)
            for ensemble in list(preparation.ensembles):
                self._note(ensemble, f"{self._node}: {text}" if text else "")

        result: Runtime | Unusable
        try:
            result = self._runtime(payload, note)
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
            preparation.ended_at = time.monotonic()
        note("")
        self._called()

    def _runtime(self, payload: str, note: Callable[[str], None]) -> Runtime:
        directory = self._payloads_dir / payload
        if not directory.exists():
            note("fetching the payload")
            self._fetch(payload, directory)
        try:
            settings = payload_settings(directory)
        except ConfigError as error:
            raise PayloadError(str(error)) from error
        system_packages.check(settings.apt, self._environ)
        built = environment.of_payload(
            directory, self._environments_dir, note=note, environ=self._environ, stop=self._stop
        )
        provenance = Provenance(
            payload, built.digest, built.python_version, built.platform, names.VERSION, self._image
        )
        return Runtime(payload, directory, built.python, settings, provenance)

    def _fetch(self, payload: str, directory: Path) -> None:
        zipped = directory.with_suffix(".zip")
        while not self._stop.is_set():
            try:
                self._download(payload, zipped)
                break
            except FileStoreError as error:
                if not passing(error):
                    raise
                log.warning("cannot fetch payload %.12s, trying again: %s", payload, error)
                self._stop.wait(2)
        archive.extract(zipped, directory)
        zipped.unlink()

    def _download(self, payload: str, target: Path) -> None:
        """From where clients put payloads, else the current worker.zip if it is the one."""
        name = names.stored_payload(payload)
        if self._store.etag(name) is None and self._store.etag(names.PAYLOAD_NAME) == payload:
            name = names.PAYLOAD_NAME
        self._store.get(name, target, expect_sha256=payload)
