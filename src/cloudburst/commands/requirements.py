"""What ``pipenv requirements`` prints, put into groups that can each be installed by one command."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloudburst.commands.sources import Source

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Group:
    """Lines of a requirements file that have hashes, or have none; and the indexes that may offer them."""

    lines: tuple[str, ...]
    hashes: bool
    sources: tuple[Source, ...]


def groups(listed: str, indexes: Mapping[str, str], sources: Sequence[Source]) -> list[Group]:
    """Everything that is ``listed``, each line in one group.

    Hashes are checked where the lock has them: then it does not matter which index offers the file. What has
    none comes only from the index that the lock names for it (``indexes``: package to name of source), else
    from the first. Nothing is installed as editable.
    """
    named = {source.name: source for source in sources}
    found: dict[tuple[bool, tuple[Source, ...]], list[str]] = {}
    for line in map(str.strip, listed.splitlines()):
        if not line or line.startswith(("#", "-i ", "--")):
            continue
        hashes = " --hash=" in line
        chosen = tuple(sources)
        if not hashes and (index := named.get(indexes.get(_name(line), ""))):
            chosen = (index,)
        found.setdefault((hashes, chosen), []).append(line.removeprefix("-e "))
    return [Group(tuple(lines), hashes, chosen) for (hashes, chosen), lines in found.items()]


def normal(name: str) -> str:
    """The name of a package in its one normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _name(line: str) -> str:
    match = _NAME.match(line)
    return normal(match[0]) if match else ""
