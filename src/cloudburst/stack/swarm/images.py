"""The stack's own images: what each is made of, and what it is called."""

from __future__ import annotations

import hashlib
import io
import re
import shlex
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cloudburst.errors import StackError

IMAGES = ("filestore", "queue", "gateway", "worker", "queue-dash")
"""In the order in which they are built."""

FIRST = {"worker": "filestore", "queue-dash": "filestore"}
"""They begin with the same steps as another, which is built before: so these are made once."""

_ARGUMENT = re.compile(r"ARG\s+(\w+)")


@dataclass(frozen=True)
class Source:
    """One image, to be built."""

    image: str
    tag: str
    """A digest of everything that goes into it."""
    arguments: Mapping[str, str]
    files: tuple[Path, ...]
    root: Path

    @property
    def dockerfile(self) -> str:
        return f"images/{self.image}/Dockerfile"

    def context(self) -> bytes:
        """A tar archive of the files; the same files give the same bytes."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in self.files:
                entry = tarfile.TarInfo(path.as_posix())
                data = (self.root / path).read_bytes()
                entry.size = len(data)
                entry.mode = _mode(self.root / path)
                archive.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()


def source(root: Path, image: str, arguments: Mapping[str, str]) -> Source:
    """What the image is made of in the checkout ``root``. Raises StackError when that is no checkout.

    Of the build arguments, those count that its Dockerfile knows.
    """
    dockerfile = root / "images" / image / "Dockerfile"
    try:
        text = dockerfile.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StackError(
            f"{dockerfile} is not there: images are built from a checkout of the project; "
            f"or name one that is built: CLOUDBURST_IMAGE_{variable(image)}"
        ) from None
    known = set(_ARGUMENT.findall(text))
    used = {name: value for name, value in sorted(arguments.items()) if name in known}
    files = tuple(sorted({dockerfile.relative_to(root), *_copied(root, text)}))
    digest = hashlib.sha256()
    for path in files:
        data = (root / path).read_bytes()
        digest.update(f"{path.as_posix()}\0{_mode(root / path):o}\0{len(data)}\0".encode() + data)
    for name, value in used.items():
        digest.update(f"{name}\0{value}\0".encode())
    return Source(image, digest.hexdigest()[:20], used, files, root)


def variable(image: str) -> str:
    """``queue-dash`` → ``QUEUE_DASH``: how variables name it."""
    return image.upper().replace("-", "_")


def _copied(root: Path, dockerfile: str) -> Iterator[Path]:
    """The files that COPY takes from the context."""
    for line in dockerfile.replace("\\\n", " ").splitlines():
        instruction, _, rest = line.strip().partition(" ")
        words = shlex.split(rest) if instruction == "COPY" else []
        if not words or any(word.startswith("--from") for word in words):
            continue
        for word in [word for word in words if not word.startswith("--")][:-1]:
            path = root / word
            found = path.rglob("*") if path.is_dir() else [path]
            for file in found:
                if file.is_file() and "__pycache__" not in file.parts and ".egg-info" not in str(file):
                    yield file.relative_to(root)


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644
