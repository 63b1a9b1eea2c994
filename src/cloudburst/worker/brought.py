"""Packages that a payload brings itself: given to pipenv and uv by absolute paths, never by a name.

To pipenv ``{path = "mylib"}`` is also a name, which it looks up on the index, and uv does the same with what
pipenv makes of it. Whoever has taken that name there would have his code installed and run.
"""

from __future__ import annotations

import posixpath
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from cloudburst.archive import pipfile as reading
from cloudburst.archive.pipfile import Table
from cloudburst.commands.requirements import normal

_CATEGORY = {"default": "packages", "develop": "dev-packages"}
"""What sections of a lock are called in a Pipfile, where that is not the same."""


def for_pipenv(table: Table, project: Path) -> str:
    """A Pipfile of the same meaning for a copy of the payload in ``project``; "" if its own text will do."""
    plain = {name: value for name, value in table.items() if name != "scripts"}
    for section, entries in reading.sections(table).items():
        plain[section] = {name: _plain(entry, project) for name, entry in entries.items()}
    changed = any(plain[section] != table[section] for section in reading.sections(table))
    return reading.to_toml(plain) if changed else ""


def settled(lock: Table, table: Table, project: Path | None = None) -> Table:
    """A lock that says of each package of the payload only ``./`` and its path there.

    Where the Pipfile (``table``) says on which machines a package is installed and pipenv has lost that, it
    is said again. ``project``: where the copy of the payload was that the lock has been made in.
    """
    found = dict(lock)
    for section, entries in reading.sections(lock).items():
        asked = table.get(_CATEGORY.get(section, section), {})
        by_name = {normal(name.partition("[")[0]): entry for name, entry in asked.items()}
        found[section] = {
            name: _limited(_portable(entry, by_name.get(normal(name)), project), by_name.get(normal(name)))
            for name, entry in entries.items()
        }
    return found


def lines(packages: Table, project: Path) -> Iterator[str]:
    """Lines of a requirements file for what the payload, of which ``project`` is a copy, brings itself."""
    for name, entry in packages.items():
        path = reading.local_path(f"Pipfile.lock: {name}", entry)
        if path is not None:
            extras = f"[{','.join(entry['extras'])}]" if entry.get("extras") else ""
            said = reading.markers(entry)
            yield _url(project, path) + extras + (f" ; {said}" if said else "")


def without(lock: Table) -> Table:
    """The same lock without the packages that the payload brings."""
    packages = lock.get("default", {})
    return lock | {"default": {name: one for name, one in packages.items() if not _path(one)}}


def _plain(entry: object, project: Path) -> object:
    if not isinstance(entry, dict):
        return entry
    if reading.has_marker_keys(entry):
        entry = reading.without_marker_keys(entry)
    path = _path(entry)
    return _only(entry, "extras", "markers") | {"file": _url(project, path)} if path else entry


def _portable(entry: Table, asked: object, project: Path | None) -> Table:
    path = _path(_inside(entry, project))
    if not path:
        return entry
    editable = entry.get("editable") or (isinstance(asked, dict) and asked.get("editable"))
    kept = _only(entry, "extras", "markers") | ({"editable": True} if editable else {})
    return kept | {"path": "." if path == "." else f"./{path}"}


def _limited(entry: Table, asked: object) -> Table:
    if not isinstance(asked, dict) or not reading.has_marker_keys(asked):
        return entry
    said = {reading.markers(one): True for one in (entry, asked) if reading.markers(one)}
    return entry | {"markers": " and ".join(f"({one})" if len(said) > 1 else one for one in said)}


def _inside(entry: Table, project: Path | None) -> Table:
    """The entry with its path relative to ``project`` if it is there."""
    key = next((key for key in ("path", "file") if key in entry), None)
    if project is None or key is None:
        return entry
    path = urllib.parse.unquote(entry[key].removeprefix("file://"))
    return {key: posixpath.relpath(path, project)} if path.startswith(f"{project}/") else entry


def _path(entry: object) -> str | None:
    return reading.local_path("Pipfile", entry)


def _only(entry: Table, *keys: str) -> Table:
    return {key: entry[key] for key in keys if entry.get(key)}


def _url(project: Path, path: str) -> str:
    return f"file://{urllib.parse.quote(posixpath.normpath(f'{project.absolute()}/{path}'))}"
