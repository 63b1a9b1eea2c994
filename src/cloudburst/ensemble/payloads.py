"""Payloads on their way into the file store: checked before they are sent, sent once."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from cloudburst import archive, names
from cloudburst.config import payload_settings
from cloudburst.errors import PayloadError

if TYPE_CHECKING:
    from cloudburst.filestore.client import FileStore

_DIGEST = re.compile("[0-9a-f]{64}")


def place(store: FileStore, payload: str | Path, function: str | None) -> str:
    """Put a payload where nodes look for it, ``payloads/<digest>.zip``; returns its digest.

    ``payload`` is a directory, a zip file, or the digest of one that is in the file store already. Raises
    PayloadError or ConfigError when it would not run, FileStoreError when it cannot be stored.
    """
    if is_digest(payload) and not Path(payload).exists():
        if not store.exists(names.stored_payload(payload)):
            raise PayloadError(f"payload {payload}: not in the file store: submit its directory or zip file")
        return payload
    with zipped(Path(payload), function) as (path, digest):
        if store.etag(names.stored_payload(digest)) != digest:
            store.put(names.stored_payload(digest), path)
        return digest


def is_digest(payload: str | Path) -> TypeGuard[str]:
    """Whether it has the form of a payload's digest."""
    return isinstance(payload, str) and _DIGEST.fullmatch(payload) is not None


def post(store: FileStore, payload: str | Path, as_name: str) -> str:
    """Store a payload under a name of its own, as stock RQ clients do; returns its digest."""
    with zipped(Path(payload), None) as (path, _):
        return store.put(as_name, path)


@contextlib.contextmanager
def zipped(payload: Path, function: str | None) -> Iterator[tuple[Path, str]]:
    """The zip file of a directory, or the given one, with its digest; checked in either case."""
    with tempfile.TemporaryDirectory(prefix="cloudburst-") as scratch:
        folder = Path(scratch)
        if payload.is_dir():
            payload_settings(payload)
            built = archive.build(payload, folder / "payload.zip", function=function)
            yield built.path, built.sha256
        elif payload.is_file():
            _check(payload, folder, function)
            yield payload, archive.digest(payload)
        else:
            raise PayloadError(f"{payload}: neither a directory nor a zip file: give the Pipfile's directory")


def _check(payload: Path, folder: Path, function: str | None) -> None:
    """What is refused in a directory is refused in a zip file too, under the zip file's name."""
    unpacked = folder / "payload"
    try:
        archive.extract(payload, unpacked)
        payload_settings(unpacked)
        archive.build(unpacked, folder / "checked.zip", function=function)
    except PayloadError as error:
        raise PayloadError(str(error).replace(str(unpacked), str(payload))) from error
    except OSError as error:
        raise PayloadError(f"{payload}: cannot be unpacked in {folder} ({error.strerror})") from error
