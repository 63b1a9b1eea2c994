"""The request headers about parts and versions of a file, read as RFC 9110 says. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloudburst.errors import FileStoreError

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)
_NOTHING_LEFT = re.compile(r"bytes \*/([0-9]{1,18})", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class NoSuchPart(FileStoreError):
    """A range of which the file has no byte (status 416); ``total`` is the file's size."""

    def __init__(self, header: str, total: int) -> None:
        super().__init__(f"range {header!r} is beyond the file's {total} bytes", status=416)
        self.total = total


@dataclass(frozen=True)
class Part:
    """Bytes ``start`` to ``stop`` (not included) of contents of ``total`` bytes."""

    start: int
    stop: int
    total: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"bytes {self.start}-{self.stop - 1}/{self.total}"


def requested_part(header: str, total: int) -> Part | None:
    """The part that a ``Range`` header asks for; None when the whole file is to be sent.

    That is so for several ranges and for a malformed header, as RFC 9110 (14.2) allows.
    Raises NoSuchPart when no byte of the range exists.
    """
    match = _RANGE.fullmatch(header)
    if not match or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(total - int(last), 0), total
    else:
        start, stop = int(first), min(int(last) + 1, total) if last else total
        if last and int(last) < start:
            return None
    if start >= total:
        raise NoSuchPart(header, total)
    return Part(start, stop, total)


def arriving_part(header: str) -> Part:
    """The part that a ``Content-Range`` header announces; ``bytes */total`` is the empty part at the end.

    Raises FileStoreError with status 400 when it is malformed.
    """
    nothing_left = _NOTHING_LEFT.fullmatch(header)
    if nothing_left:
        total = int(nothing_left.group(1))
        return Part(total, total, total)
    match = _CONTENT_RANGE.fullmatch(header)
    if match:
        first, last, total = map(int, match.groups())
        if first <= last < total:
            return Part(first, last + 1, total)
    raise FileStoreError(f"Content-Range: should be 'bytes FIRST-LAST/TOTAL', got {header!r}", status=400)


def announced_digest(header: str) -> str:
    """The SHA-256 in ``X-Content-SHA256``, in lower case; FileStoreError with status 400 if it is none."""
    digest = header.strip().lower()
    if not _SHA256.fullmatch(digest):
        raise FileStoreError(f"X-Content-SHA256: should be 64 hexadecimal digits, got {header!r}", status=400)
    return digest


def same_version(if_range: str, etag: str) -> bool:
    """Whether ``If-Range`` names exactly this version; dates and weak tags never do."""
    return if_range.strip() == etag


def already_known(if_none_match: str, etag: str) -> bool:
    """Whether ``If-None-Match`` lists this version, weakly compared, or any (``*``)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags
