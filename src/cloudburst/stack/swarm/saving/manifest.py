"""What a back-up consists of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from cloudburst.errors import StackError

FORMAT = 1

S = TypeVar("S", bound="Saved")


@dataclass(frozen=True)
class Saved:
    """Something that is saved: its contents are the object of that digest."""

    sha256: str
    size: int
    """In bytes."""


@dataclass(frozen=True)
class SavedFile(Saved):
    """A file of the file store."""

    changed_ns: int
    """Unix time of its last change."""


@dataclass(frozen=True)
class Manifest:
    """One complete back-up."""

    stack: str
    began_at: float
    """Unix time in seconds: the state of the queue is that of this moment or shortly after."""
    cloudburst: str
    redis: str
    """Versions."""
    queue: Saved
    """An RDB file."""
    files: Mapping[str, SavedFile]
    """By their path in the file store's volume."""
    volumes: Mapping[str, Saved]
    """By service: a tar of everything in its volume."""
    images: Mapping[str, str]
    """Of the services of ``volumes``, whose contents other versions might not understand."""
    secrets: Mapping[str, Saved] = field(default_factory=dict)
    """By file name."""

    def parts(self) -> Iterator[tuple[str, Saved]]:
        """Everything, with a name for each."""
        yield "queue", self.queue
        yield from ((f"file {name}", saved) for name, saved in self.files.items())
        yield from ((f"volume of {name}", saved) for name, saved in self.volumes.items())
        yield from ((f"secret {name}", saved) for name, saved in self.secrets.items())

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> Manifest:
        """The inverse of ``to_json``; StackError, naming ``source``, when it is something else."""
        try:
            raw = json.loads(text)
            if raw.pop("format") != FORMAT:
                raise StackError(f"{source}: written by another version of CloudBurst: use that one")
            return cls(
                **{
                    **raw,
                    "queue": Saved(**raw["queue"]),
                    "files": _each(raw["files"], SavedFile),
                    "volumes": _each(raw["volumes"], Saved),
                    "secrets": _each(raw["secrets"], Saved),
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StackError(f"{source}: not the manifest of a back-up ({error!r})") from error


def _each(raw: Mapping[str, Any], kind: type[S]) -> dict[str, S]:
    return {name: kind(**saved) for name, saved in raw.items()}
