"""What does not belong in a payload: leftovers of tools, and what the user lists in ``.cloudburstignore``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from cloudburst import names
from cloudburst.errors import PayloadError

IGNORE_FILE = ".cloudburstignore"

TOOL_FOLDERS = frozenset({"__pycache__", ".git", ".venv", "__MACOSX"})
"""Never code of the user's own, in whatever archive they stand."""

Ignored = Callable[[str, bool], bool]
"""Whether the path (``/`` between its parts, relative to the payload) is left out; True for a directory."""


def ignored_in(directory: Path) -> Ignored:
    """The rule for a payload in ``directory``: hidden files, leftovers of tools, and its ignore file."""
    patterns = _patterns(directory / IGNORE_FILE)

    def ignored(name: str, is_directory: bool) -> bool:
        last = name.rpartition("/")[2]
        return (
            last.startswith(".")
            or last in TOOL_FOLDERS
            or last.endswith(".pyc")
            or name == names.PAYLOAD_NAME
            or (is_directory and (directory / name / "pyvenv.cfg").exists())
            or any(pattern.fullmatch(f"{name}/" if is_directory else name) for pattern in patterns)
        )

    return ignored


def _patterns(path: Path) -> list[re.Pattern[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise PayloadError(f"{path}: not UTF-8 ({error}): save it as UTF-8") from error
    globs = [line.strip() for line in lines]
    return [_pattern(glob, path) for glob in globs if glob and not glob.startswith("#")]


def _pattern(glob: str, path: Path) -> re.Pattern[str]:
    """The part of gitignore's rules that most files use.

    ``*.csv`` anywhere, ``/data`` or ``data/old`` from the top, ``build/`` directories only, ``**`` any depth.
    """
    if glob.startswith("!"):
        raise PayloadError(f"{path}: {glob}: exceptions with '!' are not supported: list what to leave out")
    anywhere = "" if "/" in glob.rstrip("/") else "(?:.*/)?"
    end = "/" if glob.endswith("/") else "/?"
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", glob.strip("/"))
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(anywhere + "".join(wild.get(piece, re.escape(piece)) for piece in pieces) + end)
