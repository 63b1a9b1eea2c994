"""From a directory to a payload: checked first, then packed so that equal contents give equal bytes."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudburst.archive import checks
from cloudburst.archive.listing import FILES_LOOKED_AT, Member, members
from cloudburst.errors import PayloadError

SIZE_LIMIT_BYTES = 256 * 1024 * 1024
"""Largest payload. Every node unpacks it; inputs that are larger belong in the file store."""

FILES_LIMIT = 20_000

_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Payload:
    """A payload that was packed."""

    path: Path
    sha256: str
    """Names the payload; the digest of the archive's bytes, which equal contents have in common."""
    size: int
    """Bytes of the archive."""
    files: int


def build(
    directory: Path, target: Path, *, function: str | None = None, limit_bytes: int = SIZE_LIMIT_BYTES
) -> Payload:
    """Pack ``directory`` into the zip file ``target``, or say why it would not run (PayloadError).

    ``function`` such as ``worker.work`` is looked for, without importing anything. ``target`` is replaced
    in one step. Files are stored, not compressed: what deflate writes differs between zlib versions (and
    zlib-ng), so a compressed archive would have another digest on another machine, hence another payload
    on the nodes. Code is small; large inputs do not belong in a payload.
    """
    if not directory.is_dir():
        raise PayloadError(f"{directory}: no such directory: give the one that holds the Pipfile")
    try:
        chosen = members(directory, without=target)
        _refuse_excess(directory, chosen, limit_bytes)
        checks.run(directory, chosen, function)
        return _write(chosen, target)
    except OSError as error:
        raise PayloadError(f"{error.filename or target}: {error.strerror or error}") from error


def digest(path: Path) -> str:
    """SHA-256 of the file's bytes, as 64 hexadecimal digits; of any size in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_excess(directory: Path, chosen: Sequence[Member], limit_bytes: int) -> None:
    if not chosen:
        raise PayloadError(f"{directory}: holds no files: a payload needs a Pipfile and a Python module")
    if len(chosen) > FILES_LIMIT:
        counted = f"{FILES_LOOKED_AT:,} or more" if len(chosen) >= FILES_LOOKED_AT else f"{len(chosen)}"
        raise PayloadError(
            f"{directory}: {counted} files, at most {FILES_LIMIT} are allowed: "
            f"leave some out with a .cloudburstignore file"
        )
    total = sum(member.size for member in chosen)
    if total > limit_bytes:
        largest = sorted(chosen, key=lambda member: -member.size)[:5]
        listed = ", ".join(f"{member.name} ({_mib(member.size)})" for member in largest)
        raise PayloadError(
            f"{directory}: {_mib(total)}, at most {_mib(limit_bytes)} are allowed. Largest: {listed}. "
            f"Put large inputs into the file store, or leave them out with a .cloudburstignore file"
        )


def _write(chosen: Sequence[Member], target: Path) -> Payload:
    target.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    temporary = Path(name)
    try:
        with os.fdopen(number, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for member in chosen:
                _add(archive, member)
        payload = Payload(target, digest(temporary), temporary.stat().st_size, len(chosen))
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return payload


def _add(archive: zipfile.ZipFile, member: Member) -> None:
    info = zipfile.ZipInfo(member.name, _EPOCH)
    info.create_system = 3  # Unix, on every system, so that the mode counts
    info.external_attr = (0o100755 if member.executable else 0o100644) << 16
    info.file_size = member.size
    size = 0
    with member.path.open("rb") as source, archive.open(info, "w") as packed:
        while size <= member.size and (chunk := source.read(_CHUNK)):
            size += packed.write(chunk)
    if size != member.size:
        raise PayloadError(f"{member.name}: changes while it is packed: wait until nothing writes to it")


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
