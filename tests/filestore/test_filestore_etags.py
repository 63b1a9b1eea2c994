"""ETags cost nothing, survive restarts, and are never those of older contents."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.filestore.conftest import FileStoreProcess

READING = "reading it for its SHA-256"


def etag_of(contents: bytes) -> str:
    return f'"{hashlib.sha256(contents).hexdigest()}"'


def test_the_etag_of_an_uploaded_file_is_known_after_a_restart_without_reading_it(
    own_filestore: FileStoreProcess,
) -> None:
    # given
    own_filestore.put("f", b"water")
    # when
    assert own_filestore.stop() == 0
    own_filestore.start()
    # then
    assert own_filestore.ask("HEAD", "/files/f").headers["ETag"] == etag_of(b"water")
    assert READING not in own_filestore.log.read_text()


def test_a_file_that_was_put_there_by_hand_is_read_once(own_filestore: FileStoreProcess) -> None:
    (own_filestore.files / "by-hand").write_bytes(b"mine")
    for _ in range(3):
        answer = own_filestore.ask("GET", "/files/by-hand")
        assert (answer.headers["ETag"], answer.content) == (etag_of(b"mine"), b"mine")
    assert own_filestore.log.read_text().count(READING) == 1


def test_a_file_changed_by_hand_has_a_new_etag_even_with_its_old_size_and_time(
    filestore: FileStoreProcess, tmp_path: Path
) -> None:
    # given
    filestore.put("changed", b"one")
    path = filestore.files / "changed"
    before = path.stat()
    # when it is edited in place, or replaced, and its time is set back
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    edited = filestore.ask("GET", "/files/changed")
    other = filestore.directory / "other"
    other.write_bytes(b"six")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    replaced = filestore.ask("GET", "/files/changed")
    # then
    assert (edited.headers["ETag"], edited.content) == (etag_of(b"two"), b"two")
    assert (replaced.headers["ETag"], replaced.content) == (etag_of(b"six"), b"six")


def test_a_record_that_was_cut_short_does_no_harm(own_filestore: FileStoreProcess) -> None:
    own_filestore.put("f", b"water")
    for junk in (b"", b"{", b"[]", b'{"sha256": 1}'):
        for record in (own_filestore.files / ".store" / "sha256").iterdir():
            record.write_bytes(junk)
        assert own_filestore.ask("HEAD", "/files/f").headers["ETag"] == etag_of(b"water")


def test_a_deleted_file_leaves_no_record(own_filestore: FileStoreProcess) -> None:
    own_filestore.put("f", b"water")
    own_filestore.ask("DELETE", "/files/f")
    assert list((own_filestore.files / ".store" / "sha256").iterdir()) == []
