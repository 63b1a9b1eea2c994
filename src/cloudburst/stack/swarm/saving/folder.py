"""The folder of a back-up: objects by digest, and the manifest that says which belong together."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from cloudburst.errors import StackError
from cloudburst.stack.paths import read_text, write_private
from cloudburst.stack.swarm.saving.manifest import Manifest, Saved

BLOCK_BYTES = 1 << 20


class Folder:
    """``root`` may hold secrets and results: it is for its owner only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = root / "objects"
        self._manifest = root / "manifest.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and hold it; StackError when it is in use, or holds something else."""
        if self.root.exists() and not self._objects.is_dir() and any(self.root.iterdir()):
            raise StackError(f"{self.root} holds something else: name a new folder, or one of a back-up")
        self._objects.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        with (self.root / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(f"another back-up into {self.root} is under way: wait for it") from None
            for left_over in self._objects.glob("*.new"):
                left_over.unlink()
            yield

    def last(self) -> Manifest | None:
        """The manifest of the last complete back-up; None when there is none."""
        text = read_text(self._manifest)
        return Manifest.from_json(text, str(self._manifest)) if text else None

    def complete(self) -> Manifest:
        """The last complete back-up; StackError when there is none."""
        manifest = self.last()
        if manifest is None:
            what = "holds a back-up that was never completed" if self._objects.is_dir() else "is no back-up"
            raise StackError(f"{self.root} {what} (there is no manifest.json): back up again")
        return manifest

    def has(self, saved: Saved) -> bool:
        """Whether the object is there, as far as its size tells."""
        with contextlib.suppress(FileNotFoundError):
            return self.path(saved).stat().st_size == saved.size
        return False

    def path(self, saved: Saved) -> Path:
        return self._objects / saved.sha256

    def store(self, source: BinaryIO, *, size: Callable[[], int] | None = None) -> Saved:
        """Keep what ``source`` gives. ``size`` is asked at its end: how many of its bytes count."""
        new = self._objects / f"{uuid.uuid4().hex}.new"
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            hasher = hashlib.sha256()
            while block := source.read(BLOCK_BYTES):
                file.write(block)
                hasher.update(block)
            if size is not None and size() != file.tell():
                file.truncate(size())
                file.seek(0)
                hasher = hashlib.file_digest(file, "sha256")
            file.flush()
            os.fsync(file.fileno())
            saved = Saved(hasher.hexdigest(), os.fstat(file.fileno()).st_size)
        new.replace(self.path(saved))
        return saved

    def finish(self, manifest: Manifest) -> None:
        """Make this the back-up that the folder holds; objects of earlier ones go."""
        _sync(self._objects)
        write_private(self._manifest, manifest.to_json())
        _sync(self.root)
        named = {saved.sha256 for _, saved in manifest.parts()}
        for path in self._objects.iterdir():
            if path.name not in named:
                path.unlink()

    def verify(self, manifest: Manifest) -> None:
        """Read every object; StackError naming those that are missing or not what was saved."""
        wrong = []
        good: set[str] = set()
        for name, saved in manifest.parts():
            if saved.sha256 in good:
                continue
            try:
                with self.path(saved).open("rb") as file:
                    same = hashlib.file_digest(file, "sha256").hexdigest() == saved.sha256
            except FileNotFoundError:
                wrong.append(f"{name} is missing")
                continue
            if same:
                good.add(saved.sha256)
            else:
                wrong.append(f"{name} has changed")
        if wrong:
            more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise StackError(
                f"the back-up in {self.root} is damaged: {', '.join(wrong[:5])}{more}; nothing was restored"
            )


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
