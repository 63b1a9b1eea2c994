"""A disk that is really full: a file system of a few MiB."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.filestore.conftest import FileStoreProcess

pytestmark = pytest.mark.slow

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=64", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent(f"a small file system cannot be mounted, so a full disk was not tried: {mounted.stderr}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def small_filestore(small_disk: Path) -> Iterator[FileStoreProcess]:
    server = FileStoreProcess(small_disk / "filestore")
    server.start()
    yield server
    server.kill()


def test_what_does_not_fit_is_refused_at_once(small_filestore: FileStoreProcess) -> None:
    # when a client announces more than there is room for, and sends none of it yet
    with small_filestore.begin_put("/files/f", 100 * MIB) as connection:
        answer = connection.makefile("rb").readline()
    # then it need not send it
    assert b"507 Insufficient Storage" in answer


def test_a_disk_that_gets_full_on_the_way_keeps_the_old_file(small_filestore: FileStoreProcess) -> None:
    # given
    small_filestore.put("f", b"o" * MIB)
    # when more than there is room for arrives: as a stream, as a form, and resumably
    stream = small_filestore.ask("PUT", "/files/f", data=iter([b"n" * MIB] * 20))
    form = small_filestore.ask("POST", "/upload", files={"file": ("f", b"n" * 20 * MIB)})
    part = small_filestore.ask(
        "PUT",
        "/files/f",
        data=iter([b"n" * MIB] * 20),
        headers={"Content-Range": f"bytes 0-{20 * MIB - 1}/{20 * MIB}", "X-Content-SHA256": "0" * 64},
    )
    # then
    for answer in (stream, form, part):
        assert answer.status_code == 507
        assert answer.json()["ok"] is False
        assert "disk is full" in answer.json()["error"]
    assert small_filestore.arriving() == small_filestore.partials() == []
    assert small_filestore.ask("GET", "/files/f").content == b"o" * MIB
    # and what fits is still stored
    small_filestore.put("g", b"g" * MIB)


def test_when_the_system_itself_refuses_to_write_that_is_507_too(small_filestore: FileStoreProcess) -> None:
    # given a file system on which no new file can be made, though it has free blocks
    small_filestore.put("f", b"old")
    fillers = [small_filestore.directory / f"filler-{number}" for number in range(64)]
    with pytest.raises(OSError, match="No space left"):
        touch_all(fillers)
    # when
    answer = small_filestore.ask("PUT", "/files/f", data=b"new")
    # then
    assert answer.status_code == 507
    assert small_filestore.ask("GET", "/files/f").content == b"old"
    # and when there is room again, it works again
    fillers[0].unlink()
    fillers[1].unlink()
    assert small_filestore.ask("PUT", "/files/f", data=b"new").status_code == 200


def touch_all(paths: list[Path]) -> None:
    for path in paths:
        path.touch()
