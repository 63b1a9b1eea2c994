"""Text files from users, line by line; what is no UTF-8 text is named with its line."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import TextIO

from cloudburst.errors import ConfigError

_SURROGATES = range(0xDC80, 0xDD00)
"""What bytes that are no UTF-8 become."""


@contextlib.contextmanager
def opened(source: str, *, twice: bool = False) -> Iterator[TextIO]:
    """The text of a file, or of stdin for ``-``; ``twice``: it can be read from its start again.

    Raises ConfigError when it cannot be read. ``checked`` has to look at its lines.
    """
    with contextlib.ExitStack() as stack:
        if source == "-" and not hasattr(sys.stdin, "buffer"):
            yield sys.stdin
            return
        try:
            binary = sys.stdin.buffer if source == "-" else stack.enter_context(open(source, "rb"))
            if twice and not binary.seekable():
                kept = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(binary, kept)
                kept.seek(0)
                binary = kept
            # Spreadsheets begin UTF-8 with a byte order mark.
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
            stack.callback(text.detach)
            yield text
        except OSError as error:
            raise ConfigError(f"--jobs {source}: cannot be read ({error.strerror or error})") from error


def checked(lines: Iterable[str], source: str) -> Iterator[str]:
    """The same lines; ConfigError, with its number, for one that is no UTF-8 text or holds NUL."""
    for number, line in enumerate(lines, 1):
        if not line.isascii() and any(ord(character) in _SURROGATES for character in line):
            bad = next(character for character in line if ord(character) in _SURROGATES)
            utf_16 = number == 1 and bad in "\udcff\udcfe"
            what = "UTF-16" if utf_16 else f"the byte 0x{ord(bad) - 0xDC00:02x}"
            raise ConfigError(f"{source}: not UTF-8 text (line {number}: {what}): save it as UTF-8")
        if "\0" in line:
            raise ConfigError(f"{source}: not text (line {number}: a NUL character): save it as UTF-8 text")
        yield line
