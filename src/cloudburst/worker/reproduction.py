"""The payload and the environment of a job that ran elsewhere, made again on this machine."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudburst import archive, names
from cloudburst.config import payload_settings
from cloudburst.errors import BuildError, ConfigError, FileStoreError, PayloadError
from cloudburst.filestore.client import FileStore
from cloudburst.model import Provenance
from cloudburst.worker import dependencies, environment, interpreters
from cloudburst.worker.dependencies import Lock, Pipfile
from cloudburst.worker.environment import Environment, Recipe
from cloudburst.worker.interpreters import Interpreter
from cloudburst.worker.runtime import Runtime
from cloudburst.worker.stored import Stored
from cloudburst.worker.tools import Tools

log = logging.getLogger(__name__)

NOT_FOUND = 404


@dataclass(frozen=True)
class Reproduction:
    """A payload that is ready to run here."""

    runtime: Runtime
    differences: tuple[str, ...]
    """In what its environment is not that of the record; none where nothing is known of that."""


def reproduce(
    payload: str,
    ran_on: Sequence[Provenance],
    store: FileStore,
    directory: Path,
    *,
    environ: Mapping[str, str],
    note: Callable[[str], None],
) -> Reproduction:
    """The payload of that digest ("": the current worker.zip), kept under ``directory`` for the next time.

    ``ran_on``: what jobs with this payload ran on. Raises PayloadError, BuildError and FileStoreError.
    """
    digest = payload or _current(store)
    unpacked = directory / "payloads" / digest
    if not unpacked.exists():
        note("fetching the payload")
        _fetch(store, digest, unpacked)
    try:
        settings = payload_settings(unpacked)
    except ConfigError as error:
        raise PayloadError(str(error)) from error
    environments_dir = directory / "environments"
    tools = Tools.of(environ, environments_dir, note)
    pipfile = Pipfile.of(unpacked)
    interpreter = _interpreter(pipfile, ran_on, environ)
    lock = _lock(pipfile, interpreter, store, environments_dir / "locks", tools)
    recipe = Recipe(pipfile, lock, interpreter, tools.options)
    built = _environment(recipe, store, environments_dir, tools)
    here = Provenance(digest, built.digest, built.python_version, built.platform, names.VERSION)
    return Reproduction(Runtime(digest, unpacked, built.python, settings, here), differences(here, ran_on))


def _interpreter(pipfile: Pipfile, ran_on: Sequence[Provenance], environ: Mapping[str, str]) -> Interpreter:
    """Of the version that it ran on, or at least of the same minor one; else what the Pipfile asks for."""
    exact = [one.python for one in ran_on]
    for version in [*exact, *(version.rpartition(".")[0] for version in exact)]:
        with contextlib.suppress(BuildError):
            return interpreters.find(version, environ)
    return interpreters.find(pipfile.python, environ)


def _lock(
    pipfile: Pipfile, interpreter: Interpreter, store: FileStore, locks_dir: Path, tools: Tools
) -> Lock:
    """The payload's own, else the one that was made for it, else one that is made here."""
    own = dependencies.own_lock(pipfile, locks_dir, tools)
    if own is not None:
        return own
    name = names.stored_lock(pipfile.payload.name)
    if not store.exists(name):
        return dependencies.local_lock(pipfile, interpreter, locks_dir, tools)
    fetched = locks_dir / f"{pipfile.payload.name}.lock"
    store.get(name, fetched)
    return Lock.stored(fetched.read_bytes())


def _environment(recipe: Recipe, store: FileStore, environments_dir: Path, tools: Tools) -> Environment:
    """The very one that the nodes use, if they have stored it; else another from the same lock."""
    ready = environment.complete(environments_dir, recipe.digest, recipe.interpreter)
    if ready is not None:
        return ready
    environments_dir.mkdir(parents=True, exist_ok=True)
    try:
        fetched = Stored(store, environments_dir, "this machine").fetch(recipe, tools)
    except FileStoreError as error:
        log.warning("the environment that nodes use cannot be had, building another: %s", error)
        fetched = None
    return fetched or environment.build(recipe, environments_dir, tools)


def differences(here: Provenance, ran_on: Sequence[Provenance]) -> tuple[str, ...]:
    """How this environment is not any of those; the nearest one is named."""
    if not ran_on or any(there.environment == here.environment for there in ran_on):
        return ()
    there = max(ran_on, key=lambda one: (one.platform == here.platform, one.python == here.python))
    found = [
        f"{what} {mine} instead of {theirs}"
        for what, mine, theirs in (
            ("Python", here.python, there.python),
            ("platform", here.platform, there.platform),
            ("CloudBurst", here.cloudburst, there.cloudburst),
        )
        if mine != theirs
    ]
    return tuple(found) or ("another lock, or other options of the build such as CFLAGS",)


def _current(store: FileStore) -> str:
    digest = store.etag(names.PAYLOAD_NAME)
    if digest is None:
        raise PayloadError(f"the file store has no {names.PAYLOAD_NAME}: the job has nothing to run with")
    return digest


def _fetch(store: FileStore, digest: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as name:
        zipped = Path(name, "payload.zip")
        try:
            store.get(names.stored_payload(digest), zipped, expect_sha256=digest)
        except FileStoreError as error:
            if error.status != NOT_FOUND:
                raise
            raise PayloadError(f"payload {digest} is not in the file store any more") from error
        archive.extract(zipped, target)
        archive.protect(target)  # as on the nodes
