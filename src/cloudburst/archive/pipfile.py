"""A Pipfile and a Pipfile.lock as CloudBurst reads them, by the same rules on clients and nodes."""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cloudburst.errors import PayloadError

Table = dict[str, Any]
Exists = Callable[[str], bool]
"""Whether the payload has that file; a path relative to the payload, ``/`` between its parts."""

_SETTINGS = frozenset({"source", "requires", "scripts", "pipenv"})
"""Tables of a Pipfile that hold no packages."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[\w\s,.-]*\])?")
_PYTHON = re.compile(r"[0-9]+(\.[0-9]+){0,2}((a|b|rc)[0-9]+)?(\.\*)?|\*|")
_BOUND = r"\s*(===|==|~=|!=|[<>]=?)?\s*v?[0-9][\w.*+!-]*\s*"
_VERSION = re.compile(rf"\s*\*?\s*|{_BOUND}(,{_BOUND})*,?\s*")
_VCS = ("git", "hg", "svn", "bzr")
_REPOSITORY = re.compile(r"((git|hg|svn|bzr)\+)?((?!file:)[\w+.-]+://|[\w.-]+@[\w.-]+:|\$)\S*")
_REMOTE = re.compile(r"(https?|ftps?)://", re.IGNORECASE)
_AMBIGUOUS = re.compile(r"[#?%$;\[\]\"'\x00-\x1f\x7f]")
"""Has a meaning of its own in one of the forms that pipenv, pip and uv know."""

_PROJECT = ("pyproject.toml", "setup.py", "setup.cfg")
_ARCHIVE = re.compile(r"\.(whl|zip|tar|tar\.\w+|tgz|tbz2?|txz)$", re.IGNORECASE)

_MARKERS = (
    *("os_name", "sys_platform", "platform_machine", "platform_python_implementation", "platform_release"),
    *("platform_system", "platform_version", "python_version", "python_full_version"),
    *("implementation_name", "implementation_version", "os_markers"),
)
"""Keys of an entry that say on which machines it is installed, beside ``markers``."""


def read_pipfile(data: bytes) -> tuple[str, Table]:
    """Text and contents of a Pipfile (PayloadError, which begins with ``Pipfile: ``)."""
    try:
        text = data.decode("utf-8-sig")
        table = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise PayloadError(f"Pipfile: not UTF-8 text ({error.reason}): save it as UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PayloadError(f"Pipfile: not valid TOML: {error}: correct it") from error
    for name in ("requires", "pipenv", *sections(table)):
        if not isinstance(table.get(name, {}), dict):
            raise _wrong(f"Pipfile: [{name}]", "a table", table[name])
    _check_requires(table.get("requires", {}))
    _check_sources(table.get("source", []))
    for section, entries in sections(table).items():
        for name, entry in entries.items():
            _check_entry(f"Pipfile: [{section}] {name}", name, entry)
    return text, table


def read_lock(data: bytes) -> tuple[str, Table]:
    """Text and contents of a Pipfile.lock (PayloadError, which begins with ``Pipfile.lock: ``)."""
    try:
        text = data.decode("utf-8-sig")
        lock = json.loads(text)
        if not isinstance(lock, dict):
            raise ValueError("it is no object")
        for section, entries in sections(lock).items():
            for name, entry in entries.items():
                if not isinstance(entry, dict):
                    raise ValueError(f"{name!r} is no object")
                _check_entry(f"Pipfile.lock: {section}: {name}", name, entry)
        meta = lock.get("_meta", {})
        if not all(isinstance(source, dict) for source in meta.get("sources", [])):
            raise ValueError("its sources are no objects")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise PayloadError(
            f"Pipfile.lock: not a lock of pipenv ({error}): make it again with 'pipenv lock'"
        ) from error
    return text, lock


def sections(table: Table) -> dict[str, Table]:
    """The tables of packages in a Pipfile or a Pipfile.lock."""
    return {name: value for name, value in table.items() if name not in _SETTINGS and name != "_meta"}


def local_packages(table: Table, exists: Exists, file: str = "Pipfile") -> dict[str, dict[str, str]]:
    """Packages that the payload brings itself, by section: their names, and where they are in the payload.

    A name that stands for a file must never be looked up on an index, where a stranger may have taken it.
    PayloadError for one that is not in the payload.
    """
    return {
        section: dict(_located(f"{file}: [{section}]", entries, exists))
        for section, entries in sections(table).items()
    }


def local_path(where: str, entry: object) -> str | None:
    """Where in the payload the package of an entry is, such as ``libs/mylib`` or ``.``; None: elsewhere.

    PayloadError, which begins with ``where``, when that is no place in the payload.
    """
    if not isinstance(entry, dict):
        return None
    key = next((key for key in ("path", "file") if key in entry), None)
    if key is None:
        return None
    given = entry[key]
    if not isinstance(given, str) or not given.strip():
        raise PayloadError(f"{where}: {key} should be a text such as './mylib', got {given!r}")
    if _REMOTE.match(given):
        return None
    path = given.strip().replace("\\", "/")
    if path.lower().startswith("file:"):
        path = urllib.parse.unquote(path[5:])
    if _AMBIGUOUS.search(path):
        raise PayloadError(f"{where}: {given!r} has characters that tools take for something else: rename it")
    path = posixpath.normpath(path)
    if path.startswith(("/", "~", "../")) or path == ".." or re.match("[A-Za-z]:", path):
        raise PayloadError(
            f"{where}: {given!r} leads out of the payload, and would be missing on the nodes: copy it beside "
            f"the Pipfile, and give its path from there"
        )
    return path


def markers(entry: Mapping[str, Any]) -> str:
    """On which machines an entry is installed, in the one form that all tools know; "": on all."""
    parts = [f"{key} {entry[key]}" for key in _MARKERS if entry.get(key) and key != "os_markers"]
    parts += [str(entry[key]) for key in ("markers", "os_markers") if entry.get(key)]
    return parts[0] if len(parts) == 1 else " and ".join(f"({part})" for part in parts)


def has_marker_keys(entry: object) -> bool:
    """Whether pipenv would lose on which machines the entry is installed."""
    return isinstance(entry, dict) and any(key in entry for key in _MARKERS)


def without_marker_keys(entry: Mapping[str, Any]) -> Table:
    """The same entry with all that is said of machines under ``markers``."""
    plain = {key: value for key, value in entry.items() if key not in (*_MARKERS, "markers")}
    said = markers(entry)
    return plain | ({"markers": said} if said else {})


def to_toml(table: Table) -> str:
    """A Pipfile of that content."""
    lines = []
    for name, value in table.items():
        for one in value if isinstance(value, list) else [value]:
            lines.append(f"[[{_toml(name)}]]" if isinstance(value, list) else f"[{_toml(name)}]")
            lines += [f"{_toml(key)} = {_toml(item)}" for key, item in one.items()]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case bool() | int() | float():
            return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _located(section: str, entries: Table, exists: Exists) -> Iterator[tuple[str, str]]:
    for name, entry in entries.items():
        where = f"{section} {name}"
        path = local_path(where, entry)
        if path is None:
            continue
        inside = "" if path == "." else f"{path}/"
        folder = any(exists(f"{inside}{file}") for file in _PROJECT)
        if not folder and not (_ARCHIVE.search(path) and exists(path)):
            raise PayloadError(
                f"{where}: the payload has no package at {path!r} (a wheel, a source archive, or a folder "
                f"with a pyproject.toml or setup.py): correct the path, or see whether it is left out by a "
                f".cloudburstignore file or a name that begins with a dot"
            )
        yield name, path


def _check_requires(requires: Table) -> None:
    for key in ("python_version", "python_full_version"):
        value = requires.get(key, "")
        if not isinstance(value, str) or not _PYTHON.fullmatch(value.strip()):
            hint = " (a number loses its zeros: write it in quotes)" if isinstance(value, int | float) else ""
            raise _wrong(f"Pipfile: [requires] {key}", 'one version such as "3.11"', value, hint)


def _check_sources(given: object) -> None:
    for source in given if isinstance(given, list) else [given]:
        if not isinstance(source, dict):
            raise _wrong("Pipfile: [[source]]", "a table with url and name", source)
        for key in ("url", "name"):
            if not isinstance(source.get(key), str) or not source[key].strip():
                raise _wrong(f"Pipfile: [[source]] {key}", "a text", source.get(key))


def _check_entry(where: str, name: str, entry: object) -> None:
    if not _NAME.fullmatch(name):
        raise PayloadError(
            f"{where}: not the name of a package: write the name alone, and the rest behind the '='"
        )
    if not isinstance(entry, dict):
        _check_version(where, entry)
        return
    given = [key for key in ("path", "file", *_VCS, "uri", "url") if key in entry]
    if len(given) > 1 or {"uri", "url"} & set(given):
        raise PayloadError(f"{where}: {' and '.join(given)}: give one of path, file and git")
    for key in _VCS:
        if key in entry:
            _check_repository(where, entry[key])
    if entry.get("version") is not None:
        _check_version(where, entry["version"])
    extras = entry.get("extras", [])
    are_names = isinstance(extras, list) and all(
        isinstance(one, str) and _NAME.fullmatch(one) for one in extras
    )
    if not are_names:
        raise _wrong(f"{where} extras", "a list of names", extras)
    for key in ("markers", *_MARKERS):
        if not isinstance(entry.get(key, ""), str):
            raise _wrong(f"{where} {key}", "a text such as \"== 'linux'\"", entry[key])


def _check_version(where: str, version: object) -> None:
    if isinstance(version, str) and version.startswith(tuple(f"{vcs}+" for vcs in _VCS)):
        _check_repository(where, version)
    elif not isinstance(version, str) or not _VERSION.fullmatch(version):
        looks_local = isinstance(version, str) and re.search(r"[/\\@]|^\.", version)
        hint = ": a package of the payload itself is {path = './mylib'}" if looks_local else ""
        raise _wrong(where, 'a version such as "*", "==1.2" or ">=1,<2"', version, hint)


def _check_repository(where: str, url: object) -> None:
    if not isinstance(url, str) or not _REPOSITORY.fullmatch(url):
        raise _wrong(where, "the URL of a repository that all nodes reach", url)


def _wrong(where: str, what: str, value: object, hint: str = "") -> PayloadError:
    return PayloadError(f"{where}: should be {what}, got {value!r:.80}{hint}")
