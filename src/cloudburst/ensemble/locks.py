"""The Pipfile.lock of a payload: its own, else the one that was made for it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cloudburst import archive, names
from cloudburst.ensemble.connection import Connection
from cloudburst.errors import EnsembleError, PayloadError

if TYPE_CHECKING:
    from cloudburst.filestore.client import FileStore

_DIGEST = re.compile("[0-9a-f]{8,64}")


def named(store: FileStore, queue: Connection, name: str) -> str:
    """The digest of the payload that is meant by ``name``.

    That is a digest or its first characters, 8 or more; a file in the file store such as worker.zip; or an
    ensemble. Raises PayloadError when there is none, or more than one.
    """
    if _DIGEST.fullmatch(name):
        found = [stored.name for stored in store.list(names.stored_payload(name).removesuffix(".zip"))]
        digests = [Path(one).stem for one in found if one.endswith(".zip")]
        if len(digests) > 1:
            raise PayloadError(f"{name}: {len(digests)} payloads begin so: give more of its digest")
        if digests:
            return digests[0]
    digest = store.etag(name)
    if digest is not None:
        return digest
    try:
        status = queue.patiently(queue.ensembles.status, queue.patiently(queue.ensembles.find, name))
    except EnsembleError as error:
        raise PayloadError(
            f"{name}: neither a payload's digest, nor a file in the file store, nor an ensemble"
        ) from error
    return status.payload or named(store, queue, names.PAYLOAD_NAME)


def of_payload(store: FileStore, digest: str) -> str:
    """The text of its Pipfile.lock (PayloadError while it brings none and none has been made)."""
    with tempfile.TemporaryDirectory(prefix="cloudburst-") as scratch:
        unpacked, made = Path(scratch, "payload"), Path(scratch, "made")
        _unpack(store, digest, unpacked)
        own = unpacked / "Pipfile.lock"
        if own.is_file():
            return own.read_text(encoding="utf-8", errors="replace")
        if not store.exists(names.stored_lock(digest)):
            raise PayloadError(
                f"payload {digest:.12} brings no Pipfile.lock, and none has been made yet: the first worker "
                "that gets a job with it makes one; ask again then"
            )
        store.get(names.stored_lock(digest), made)
        return made.read_text(encoding="utf-8", errors="replace")


def _unpack(store: FileStore, digest: str, target: Path) -> None:
    zipped, name = target.with_suffix(".zip"), names.stored_payload(digest)
    if not store.exists(name):
        raise PayloadError(f"payload {digest}: not in the file store any more")
    store.get(name, zipped, expect_sha256=digest)
    archive.extract(zipped, target)
