"""From an archive to a directory, whoever made it: nothing lands outside, nothing grows without bound."""

from __future__ import annotations

import errno
import mmap
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from cloudburst.archive.ignoring import TOOL_FOLDERS
from cloudburst.archive.listing import portable_name, refuse_clashes
from cloudburst.archive.packing import FILES_LIMIT, SIZE_LIMIT_BYTES
from cloudburst.errors import PayloadError

EXTRACTED_LIMIT_BYTES = 4 * SIZE_LIMIT_BYTES
"""Largest sum of file sizes; archives that others made are compressed."""

RATIO_LIMIT = 200
"""Deflate reaches 1,032 on zeros only; code and numbers stay below 20."""

RATIO_COUNTS_FROM_BYTES = 16 * 1024 * 1024

_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, IndexError)
"""What zipfile raises for damaged archives: found by feeding it 20,000 of them."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 256 * 1024


def extract(archive: Path, target: Path, *, limit_bytes: int = EXTRACTED_LIMIT_BYTES) -> None:
    """Unpack a payload so that ``target`` holds its Pipfile, or leave no trace (PayloadError: why).

    Takes any zip file, also with all in one folder. ``target`` appears complete, in one step; if it is
    there already, nothing is done. OSError when the disk is full or not writable.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:32]}-"))
    try:
        _unpack(archive, temporary, limit_bytes)
        temporary.chmod(0o755)
        _rename(temporary, target)
    except PayloadError as error:
        raise PayloadError(f"{archive}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary: Path, target: Path) -> None:
    try:
        temporary.rename(target)
    except OSError:
        if not target.is_dir():  # another process was faster, and its copy is as complete as ours
            raise


def _unpack(archive: Path, folder: Path, limit_bytes: int) -> None:
    _refuse_huge_directory(archive)
    budget = _Budget(archive.stat().st_size, limit_bytes)
    try:
        with zipfile.ZipFile(archive) as file:
            for name, info in _members(file).items():
                _write(file, info, folder / name, budget)
    except _DAMAGES as error:
        raise PayloadError(f"damaged, or not a zip file: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise PayloadError("damaged, or not a zip file: it refers to places before its start") from error


def _refuse_huge_directory(archive: Path) -> None:
    """Refuse an archive whose list of members alone would fill the memory, before it is read."""
    if archive.stat().st_size == 0:
        raise PayloadError("damaged, or not a zip file: it is empty")
    with archive.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # Archives inside the payload are counted too: hence ten times as many as are allowed.
        if sum(1 for _ in re.finditer(rb"PK\x01\x02", data)) > 10 * FILES_LIMIT:
            raise PayloadError(f"too many files, at most {FILES_LIMIT} are allowed")


def _members(file: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files to unpack by their path relative to the folder that holds the Pipfile."""
    files = [
        info
        for info in file.infolist()
        if not info.is_dir() and TOOL_FOLDERS.isdisjoint(_slashes(info.filename).split("/"))
    ]
    # As tar does, some archivers write ./Pipfile.
    dotted = bool(files) and all(_slashes(info.filename).startswith("./") for info in files)
    found = [(_safe_name(info, "./" if dotted else ""), info) for info in files]
    if len(found) > FILES_LIMIT:
        raise PayloadError(f"{len(found)} files, at most {FILES_LIMIT} are allowed")
    names = [name for name, _ in found]
    refuse_clashes(names)
    prefix = _folder_of_pipfile(names)
    return {name.removeprefix(prefix): info for name, info in found if name.startswith(prefix)}


def _slashes(name: str) -> str:
    """Some archivers on Windows separate folders by backslashes."""
    return name.replace("\\", "/")


def _safe_name(info: zipfile.ZipInfo, before: str) -> str:
    if "\0" in info.orig_filename:
        raise PayloadError(f"file name {info.orig_filename!r}: has control characters: rename it")
    name = portable_name(_slashes(info.filename).removeprefix(before))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise PayloadError(f"{name}: a symbolic link: pack the file itself ('zip -r' without '-y' does)")
    if kind not in {0, stat.S_IFREG}:
        raise PayloadError(f"{name}: neither a file nor a folder: leave it out")
    if info.flag_bits & 0x1:
        raise PayloadError(f"{name}: encrypted: pack it without a password")
    if info.compress_type not in _METHODS:
        raise PayloadError(f"{name}: compressed in an unusual way: use deflate, or store it")
    return name


def _folder_of_pipfile(names: Sequence[str]) -> str:
    """``""``, or the path with its ``/`` of the one folder that holds everything."""
    pipfiles = [name for name in names if name.rpartition("/")[2] == "Pipfile"]
    if not pipfiles:
        raise PayloadError("holds no Pipfile: pack the directory that has one")
    prefix = min(pipfiles, key=lambda name: (name.count("/"), name)).removesuffix("Pipfile")
    for name in names:
        if not name.startswith((prefix, ".")):
            raise PayloadError(f"the Pipfile is in {prefix} but {name} is not: pack the Pipfile's directory")
    return prefix


class _Budget:
    """How many more bytes may be unpacked; counted as they come, since an archive's own figures may lie."""

    def __init__(self, packed_bytes: int, limit_bytes: int) -> None:
        self._packed = packed_bytes
        self._limit = limit_bytes
        self._spent = 0

    def spend(self, size: int) -> None:
        self._spent += size
        if self._spent > self._limit:
            limit = f"{self._limit // 1024 // 1024} MiB"
            raise PayloadError(f"unpacks to more than {limit}: put large inputs into the file store")
        if self._spent > RATIO_COUNTS_FROM_BYTES and self._spent > RATIO_LIMIT * self._packed:
            raise PayloadError(f"unpacks to more than {RATIO_LIMIT} times its size, as only bombs do")


def _write(file: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, budget: _Budget) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o755 if (info.external_attr >> 16) & stat.S_IXUSR else 0o644
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(number, "wb") as unpacked, file.open(info) as packed:
        while chunk := packed.read(_CHUNK):
            budget.spend(len(chunk))
            unpacked.write(chunk)
