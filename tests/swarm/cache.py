"""Where the harness keeps what is dear to make: base trees, packages, images."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def directory() -> Path:
    """The cache of the harness; it may be deleted at any time at which no test runs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(home) / "cloudburst-tests" / "swarm"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone on this machine, with this lock file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest(*parts: str | bytes | Path) -> str:
    """Of texts, bytes, files and folders: what names a thing that was made from them."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(file for file in part.rglob("*") if file.is_file()) if part.is_dir() else [part]
            for file in files:
                name = str(file.relative_to(part)) if file != part else file.name
                total.update(f"{name}\0{file.stat().st_mode & 0o111}\0{file.stat().st_size}\0".encode())
                total.update(file.read_bytes())
        else:
            total.update((part if isinstance(part, bytes) else part.encode()) + b"\0")
    return total.hexdigest()[:16]


def made(name: str, make: Callable[[Path], None]) -> Path:
    """The path of this name in the cache; where it is missing, ``make(new)`` makes it: all or nothing."""
    path = directory() / name
    if path.exists():
        return path
    with locked(directory() / f"{name}.lock"):
        if not path.exists():
            new = directory() / f"{name}.new"
            remove(new)
            make(new)
            new.rename(path)
    return path


def remove(path: Path) -> None:
    """This file or folder, if it's there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
