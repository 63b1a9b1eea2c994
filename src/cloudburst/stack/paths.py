"""Where a stack keeps its things on this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUBDIRECTORIES = ("secrets", "run", "logs", "redis", "files", "points", "worker")


@dataclass(frozen=True)
class Paths:
    """The directory of one stack."""

    root: Path

    @property
    def lock(self) -> Path:
        """Beside the directory, so that it can be held while that is removed."""
        return self.root.parent / f".{self.root.name}.lock"

    @property
    def endpoints(self) -> Path:
        """Written when a start is complete, removed when the stack is stopped."""
        return self.root / "endpoints.json"

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def record(self, service: str) -> Path:
        """Which process the service is."""
        return self.run / f"{service}.json"

    def log(self, service: str) -> Path:
        return self.root / "logs" / f"{service}.log"

    def secret(self, name: str) -> Path:
        return self.root / "secrets" / name

    def make(self) -> None:
        for name in SUBDIRECTORIES:
            (self.root / name).mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` in one step, readable by this user only."""
    new = path.with_name(f".{path.name}.new")
    with naming(path):
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise


def read_text(path: Path) -> str:
    """Contents of the file, "" if it is not there. What is no text in it fails to parse, and is told then."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system name ``path``: a full disk is noticed by a write, which knows of no file."""
    try:
        yield
    except OSError as error:
        if not error.filename:
            error.filename = str(path)
        raise
