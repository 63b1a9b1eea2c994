"""The files of a payload: found, named portably, and none of them from outside its directory."""

from __future__ import annotations

import itertools
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cloudburst.archive.ignoring import Ignored, ignored_in
from cloudburst.errors import PayloadError

FILES_LOOKED_AT = 100_000
"""A home directory has millions; more than a payload may have is enough to say so."""

NAME_LIMIT_BYTES = 255
"""What file systems take."""

PATH_LIMIT_BYTES = 1024
"""What systems take, less the path of the folder that a node unpacks it to."""


@dataclass(frozen=True)
class Member:
    """One file of a payload."""

    name: str
    """Path relative to the payload, ``/`` between its parts."""
    path: Path
    size: int
    executable: bool


def members(directory: Path, *, without: Path) -> list[Member]:
    """All files of the payload in ``directory`` sorted by name, except ignored ones and ``without``.

    Symbolic links stand for the files they point to, as long as these are in the tree (PayloadError).
    """
    root = directory.resolve()
    found = list(itertools.islice(_walk(root, root, "", ignored_in(root), (root,)), FILES_LOOKED_AT))
    chosen = [member for member in found if member.path != without.resolve()]
    refuse_clashes([member.name for member in chosen])
    return sorted(chosen, key=lambda member: member.name)


def portable_name(raw: str) -> str:
    """``raw`` in Unicode's composed form, if every system can have a file of that name (else PayloadError).

    macOS lists names in decomposed form, so without this one payload would have two digests.
    """
    name = unicodedata.normalize("NFC", raw)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise PayloadError(f"file name {raw!r}: has control characters or is not UTF-8: rename it")
    if "\\" in name:
        raise PayloadError(f"file name {raw!r}: a backslash separates folders on some systems: rename it")
    if name.startswith("/") or name[1:2] == ":" or {"", ".", ".."} & set(name.split("/")):
        raise PayloadError(f"file name {raw!r:.200}: leads out of the payload")
    if max(len(part.encode()) for part in name.split("/")) > NAME_LIMIT_BYTES:
        raise PayloadError(f"file name {raw!r:.100}...: longer than {NAME_LIMIT_BYTES} bytes: shorten it")
    if len(name.encode()) > PATH_LIMIT_BYTES:
        raise PayloadError(
            f"file name {raw!r:.100}...: longer than {PATH_LIMIT_BYTES:,} bytes with its folders: shorten it"
        )
    return name


def refuse_clashes(files: list[str]) -> None:
    """PayloadError when two of these files, or a file and a folder, are one where case does not count."""
    seen: dict[str, str] = {}
    folders = {folder: name for name in files for folder in _folders(name.casefold())}
    for name in files:
        key = name.casefold()
        other = seen.get(key) or folders.get(key)
        if other is not None:
            raise PayloadError(f"{other!r} and {name!r} are the same on some systems: rename one")
        seen[key] = name


def _folders(name: str) -> Iterator[str]:
    while (name := name.rpartition("/")[0]) != "":
        yield name


def _walk(
    root: Path, folder: Path, prefix: str, ignored: Ignored, above: tuple[Path, ...]
) -> Iterator[Member]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = f"{prefix}{entry.name}"
        if ignored(name, entry.is_dir()):
            continue
        path = _inside(root, Path(entry.path), name) if entry.is_symlink() else Path(entry.path)
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            portable_name(name)
            if path in above:
                raise PayloadError(f"{name}: a link to a folder that holds it: remove the link")
            yield from _walk(root, path, f"{name}/", ignored, (*above, path))
        elif stat.S_ISREG(status.st_mode):
            executable = bool(status.st_mode & stat.S_IXUSR)
            yield Member(portable_name(name), path, status.st_size, executable)
        else:
            raise PayloadError(
                f"{name}: neither a file nor a folder: remove it, or list it in .cloudburstignore"
            )


def _inside(root: Path, link: Path, name: str) -> Path:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise PayloadError(
            f"{name}: a link to {os.readlink(link)}, which cannot be reached: {error}"
        ) from error
    if not target.is_relative_to(root):
        raise PayloadError(
            f"{name}: a link to {target}, which is outside the payload and would be missing on the nodes: "
            f"copy it into the payload"
        )
    return target
