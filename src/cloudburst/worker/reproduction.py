"""The payload and the environment of a job that ran elsewhere, made again on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudburst import archive, names
from cloudburst.config import payload_settings
from cloudburst.errors import ConfigError, FileStoreError, PayloadError
from cloudburst.filestore.client import FileStore
from cloudburst.model import Provenance
from cloudburst.worker import environment
from cloudburst.worker.runtime import Runtime

log = logging.getLogger(__name__)


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
    built = environment.build(unpacked, directory / "environments", environ=environ, note=note)
    here = Provenance(digest, built.digest, built.python_version, built.platform, names.VERSION)
    runtime = Runtime(digest, unpacked, built.python, settings, here)
    return Reproduction(runtime, differences(here, ran_on))


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
    return tuple(found) or ("other versions of packages: the lock is not the one that was used there",)


def _current(store: FileStore) -> str:
    digest = store.etag(names.PAYLOAD_NAME)
    if digest is None:
        raise PayloadError(f"the file store has no {names.PAYLOAD_NAME}: the job has nothing to run with")
    return digest


def _fetch(store: FileStore, digest: str, target: Path) -> None:
    zipped = target.with_suffix(".zip")
    name = names.stored_payload(digest)
    if store.etag(name) is None and store.etag(names.PAYLOAD_NAME) == digest:
        name = names.PAYLOAD_NAME
    try:
        store.get(name, zipped, expect_sha256=digest)
    except FileStoreError as error:
        if error.status != 404:
            raise
        raise PayloadError(f"payload {digest} is not in the file store any more: post it again") from error
    archive.extract(zipped, target)
    zipped.unlink()
