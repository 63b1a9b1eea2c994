"""Which names files may have: ``a`` or ``a/b/c``, of safe segments."""

from __future__ import annotations

from cloudburst.errors import FileStoreError

SEGMENT_LIMIT_BYTES = 255
"""What Linux file systems allow."""
NAME_LIMIT_BYTES = 1024


def checked(name: str) -> str:
    """Return ``name`` if it is safe; else raise FileStoreError with status 400 that says why not."""
    problem = _problem(name)
    if problem:
        shown = name if len(name) <= 80 else f"{name[:77]}..."
        raise FileStoreError(f"{shown!r} cannot be the name of a file: {problem}", status=400)
    return name


def is_safe(name: str) -> bool:
    """Whether ``checked`` lets the name pass."""
    return not _problem(name)


def _problem(name: str) -> str:
    if not name:
        return "it is empty"
    # Covers control characters, line separators, text direction marks and lone surrogates.
    # U+FFFD stands where a URL was not UTF-8: another name would be stored than was asked for.
    if not name.isprintable() or "\ufffd" in name:
        return "it has a character that cannot be printed"
    if name.startswith("/"):
        return "it is an absolute path"
    if "\\" in name:
        return "it has a backslash"
    if len(name.encode()) > NAME_LIMIT_BYTES:
        return f"it is longer than {NAME_LIMIT_BYTES} bytes"
    return next(filter(None, map(_problem_of_segment, name.split("/"))), "")


def _problem_of_segment(segment: str) -> str:
    if not segment:
        return "a part between two slashes is empty"
    if segment.startswith("."):
        return "a part starts with a dot"
    if segment != segment.strip():
        return "a part starts or ends with a space"
    if len(segment.encode()) > SEGMENT_LIMIT_BYTES:
        return f"a part is longer than {SEGMENT_LIMIT_BYTES} bytes"
    return ""
