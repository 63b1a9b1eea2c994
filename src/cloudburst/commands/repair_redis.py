"""python repair_redis.py REDIS_SERVER DIRECTORY [--give-up]: to be run before each start of Redis.

After a power cut, half of a script may stand at the end of the append-only file, or zeros where data was
never written. Redis takes off an unfinished command, but may leave the MULTI before it open, so that half of
a script would be applied at the next start but one (valkey#4342). And it takes everything for unfinished that
stands behind a length that one bad byte has made too large. So it is told to take nothing off
(aof-load-truncated no), and this takes off at most the last transaction, or the last command outside of any,
if the file's own bytes show that it is unfinished. A copy is kept beside the file.

Anything else ends with status 1, a message for whoever starts the stack, and unchanged files. ``--give-up``
then takes off what stands behind the damage, too: for an operator who has no back-up.

The image of the queue runs this with Debian's python3-minimal, which lacks dataclasses, mmap and shutil.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MANIFEST = "appendonlydir/appendonly.aof.manifest"
"""From Redis 7 on: what the append-only file consists of, in order. Before, it was one file."""

PREAMBLE_VERSION = 9
"""RDB versions up to this one (Redis 6.2) may have commands behind them in the same file."""

LIMIT = 256 << 20
"""Redis syncs its file every second: bytes that can have been under way when the power failed."""

LINE = 1024
"""Longer than any line of the format, but for values, which have a length."""

CHUNK = 1 << 16

COMMAND_BEGINS = re.compile(rb"\r\n\*\d+\r\n\$\d+\r\n")


class RefusedError(Exception):
    """Redis must not be started; the message says why, and what can be done."""


class DamagedError(Exception):
    """At byte ``at`` the file is neither whole nor merely cut short; what is before ``kept`` is whole."""

    def __init__(self, at: int, kept: int = 0) -> None:
        super().__init__(at)
        self.at = at
        self.kept = kept


class UnfinishedError(Exception):
    """The file ends within a command."""


def repair(server: str, directory: Path, *, give_up: bool = False) -> Iterator[str]:
    """Take off what a power cut has left, and say so. Raises RefusedError and OSError."""
    files = [directory / "appendonly.aof"]
    if (directory / MANIFEST).exists():
        _check_version(server, directory)
        files = _listed(directory / MANIFEST)
    elif not files[0].exists():
        return
    for path in files:
        last = path == files[-1]
        with path.open("r+b", buffering=CHUNK) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                kept = _whole(file, size)
                what = "an unfinished script"
                if size - kept > (LIMIT if last else 0):
                    raise DamagedError(kept, kept)
            except DamagedError as damage:
                if not (give_up and last and damage.kept):
                    raise RefusedError(_damaged(path, damage.at, size)) from None
                kept, what = damage.kept, "a damaged part"
            if kept < size:
                copy = _cut(file, path, kept)
                yield f"{path} ends with {what}, which is taken off: {size - kept:,} bytes, kept in {copy}"


def _check_version(server: str, directory: Path) -> None:
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"v=(\d+)[.\d]*", said)
    if version and int(version[1]) < 7:
        raise RefusedError(
            f"{directory} was written by Redis 7 or later, and {server} is version {version[0][2:]}, which "
            "does not read it and would start with an empty queue: install Redis 7 or later"
        )


def _listed(manifest: Path) -> list[Path]:
    """The files that Redis reads. Raises RefusedError where one is missing."""
    files = []
    for line in manifest.read_text(encoding="utf-8", errors="replace").splitlines():
        entry = re.fullmatch(r"file (\S+) seq \d+ type ([bih])( .*)?", line)
        if entry is None and line and not line.startswith("#"):
            raise RefusedError(f"{manifest} is damaged: {line[:100]!r}; restore the queue from a back-up")
        if entry and entry[2] != "h":
            files.append(manifest.with_name(entry[1]))
    for file in files:
        if not file.exists():
            raise RefusedError(f"{file} is missing, which {manifest} lists; restore the queue from a back-up")
    return files


def _damaged(path: Path, at: int, size: int) -> str:
    return (
        f"{path} is damaged at byte {at:,} of {size:,}, and not only cut short at its end.\n"
        "Redis is not started: accepted jobs and results stand behind the damage. Nothing was changed.\n"
        'Restore a back-up, or give up what stands behind: docs/troubleshooting.md, "A damaged queue".'
    )


def _cut(file: BinaryIO, path: Path, kept: int) -> Path:
    """Take off what is behind ``kept``, once a copy of it is on the disk."""
    copy = path.with_name(f"{path.name}.taken-off-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    file.seek(kept)
    with open(copy, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as to:
        while chunk := file.read(CHUNK):
            to.write(chunk)
        to.flush()
        os.fsync(to.fileno())
    _sync_folder(path.parent)
    file.truncate(kept)
    os.fsync(file.fileno())
    return copy


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _before_zeros(file: BinaryIO, size: int) -> int:
    """Where the zeros begin with which the file ends: no command ends with a zero."""
    end = size
    while end > 0:
        start = max(0, end - CHUNK)
        file.seek(start)
        data = file.read(end - start).rstrip(b"\0")
        if data:
            return start + len(data)
        end = start
    return 0


def _whole(file: BinaryIO, size: int) -> int:
    """Where the last whole transaction, or command outside of any, ends. Raises DamagedError.

    MULTI and EXEC are the only commands of one word that stand in or around a transaction.
    """
    kept = at = _behind_preamble(file, size)
    end = max(at, _before_zeros(file, size))
    file.seek(at)
    within = False
    try:
        while at < end:
            word, behind = _command(file, at, end)
            if word == b"MULTI" and not within:
                within = True
            elif word == b"EXEC" and within:
                within = False
            elif word and (within or word in {b"MULTI", b"EXEC"}):
                raise DamagedError(at)
            at = behind
            if not within:
                kept = at
    except UnfinishedError:
        # A length that is too large by a bad byte would swallow whole commands.
        if _another_begins(file, at, end):
            raise DamagedError(at, kept) from None
    except DamagedError as damage:
        raise DamagedError(damage.at, kept) from None
    return kept


def _command(file: BinaryIO, at: int, end: int) -> tuple[bytes, int]:
    """Its word, in capitals, if it is one word, and where it ends; an annotation counts as a command of none.

    ``file`` stands at ``at`` and then at the end of it.
    """
    line = file.readline(LINE)
    if line[:1] == b"#":
        if line[-2:] != b"\r\n":
            raise _broken(at, line, end, rb"#[^\r\n\0]*\r?")
        return b"", at + len(line)
    if not (line[:1] == b"*" and line[-2:] == b"\r\n" and (digits := line[1:-2]).isdigit() and int(digits)):
        raise _broken(at, line, end, rb"\*\d*\r?")
    words = int(digits)
    at += len(line)
    value = b""
    for _ in range(words):
        line = file.readline(LINE)
        if not (line[:1] == b"$" and line[-2:] == b"\r\n" and (digits := line[1:-2]).isdigit()):
            raise _broken(at, line, end, rb"(\$\d*\r?)?")
        length = int(digits) + 2
        at += len(line) + length
        if at > end:
            raise UnfinishedError
        if length > CHUNK:
            file.seek(length - 2, os.SEEK_CUR)
            length = 2
        value = file.read(length)
        if value[-2:] != b"\r\n":
            raise DamagedError(at - 2)
    return value[:-2].upper() if words == 1 else b"", at


def _broken(at: int, line: bytes, end: int, beginning: bytes) -> DamagedError | UnfinishedError:
    """Whether ``line`` is the beginning of one that ``end`` cuts short, or damage."""
    cut_short = at + len(line) >= end and re.fullmatch(beginning, line[: end - at])
    return UnfinishedError() if cut_short else DamagedError(at)


def _another_begins(file: BinaryIO, at: int, end: int) -> bool:
    file.seek(at)
    rest, overlap = end - at, b""
    while rest > 0:
        chunk = file.read(min(CHUNK, rest))
        rest -= len(chunk)
        if COMMAND_BEGINS.search(overlap + chunk):
            return True
        overlap = chunk[-64:]
    return False


def _behind_preamble(file: BinaryIO, size: int) -> int:
    """Where the commands begin: behind a snapshot (RDB), if the file begins with one.

    It was whole when the file got its name, so one that is not is damaged. A file that is a snapshot alone is
    left to Redis, which checks its sum. Format: rdb.c of Redis 6.2.
    """
    file.seek(0)
    magic = file.read(9)
    if magic[:5] != b"REDIS":
        return 0
    if not magic[5:].isdigit():
        raise DamagedError(5)
    if int(magic[5:]) > PREAMBLE_VERSION:
        return size
    _Snapshot(file, size).skip()
    return file.tell()


class _Snapshot:
    """Reads past an RDB; only its lengths and types matter. Raises DamagedError."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def skip(self) -> None:
        """From behind the magic to behind the sum."""
        while (kind := self._byte()) != 0xFF:
            if kind == 0xFA:  # about the snapshot
                self._texts(2)
            elif kind == 0xFB:  # sizes of tables
                self._lengths(2)
            elif kind in {0xFC, 0xFD, 0xF9}:  # when the next key expires, how often it is used
                self._raw({0xFC: 8, 0xFD: 4, 0xF9: 1}[kind])
            elif kind in {0xFE, 0xF8}:  # number of the database, how long the next key was idle
                self._lengths(1)
            else:
                self._texts(1)
                self._value(kind)
        self._raw(8)

    def _value(self, kind: int) -> None:
        if kind in {0, 9, 10, 11, 12, 13}:  # a string, or what is packed into one
            self._texts(1)
        elif kind in {1, 2, 14}:  # list, set, list of packed parts
            self._texts(self._length())
        elif kind == 4:  # hash
            self._texts(2 * self._length())
        elif kind == 5:  # sorted set
            for _ in range(self._length()):
                self._texts(1)
                self._raw(8)
        elif kind == 15:
            self._stream()
        else:  # a module's, or none
            raise DamagedError(self._file.tell())

    def _stream(self) -> None:
        self._texts(2 * self._length())
        self._lengths(3)  # size, last ID
        for _ in range(self._length()):  # groups
            self._texts(1)
            self._lengths(2)
            for _ in range(self._length()):  # pending
                self._raw(16 + 8)
                self._lengths(1)
            for _ in range(self._length()):  # consumers
                self._texts(1)
                self._raw(8)
                self._raw(16 * self._length())

    def _texts(self, count: int) -> None:
        for _ in range(count):
            first = self._byte()
            if first < 0xC0:
                self._raw(self._length(first))
            elif first <= 0xC2:  # a number
                self._raw(1 << (first - 0xC0))
            elif first == 0xC3:  # compressed
                size = self._length()
                self._lengths(1)
                self._raw(size)
            else:
                raise DamagedError(self._file.tell())

    def _lengths(self, count: int) -> None:
        for _ in range(count):
            self._length()

    def _length(self, first: int | None = None) -> int:
        first = self._byte() if first is None else first
        if first < 0x40:
            return first
        if first < 0x80:
            return (first & 0x3F) << 8 | self._byte()
        if first in {0x80, 0x81}:
            return self._number(4 if first == 0x80 else 8)
        raise DamagedError(self._file.tell())

    def _byte(self) -> int:
        data = self._file.read(1)
        if not data:
            raise DamagedError(self._size)
        return data[0]

    def _number(self, size: int) -> int:
        return int.from_bytes(self._file.read(size), "big")

    def _raw(self, size: int) -> None:
        if self._file.tell() + size > self._size:
            raise DamagedError(self._file.tell())
        self._file.seek(size, os.SEEK_CUR)


def main(server: str, directory: str, *options: str) -> int:
    """The exit status: 0, or 1 if Redis must not be started."""
    try:
        for line in repair(server, Path(directory), give_up="--give-up" in options):
            print(line, flush=True)  # noqa: T201
    except (RefusedError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
