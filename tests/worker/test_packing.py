"""Archives of environments: what comes out is what went in, and nothing lands outside."""

from __future__ import annotations

import importlib.util
import io
import os
import py_compile
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from cloudburst.worker import packing
from cloudburst.worker.arriving import Arriving
from cloudburst.worker.packing import Damaged
from tests.wait import wait_until

pytestmark = pytest.mark.slow


def tree(directory: Path) -> dict[str, tuple]:
    """Everything below a directory: kind, mode, contents, and when it was changed to the second."""
    found: dict[str, tuple] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("folder",)
        else:
            status = path.stat()
            found[name] = (oct(status.st_mode), path.read_bytes(), int(status.st_mtime))
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Small files, an empty one, a large one, a program, links, long names."""
    made = tmp_path / "environment"
    (made / "bin").mkdir(parents=True)
    (made / "empty-folder").mkdir()
    (made / ("d" * 80) / ("e" * 80)).mkdir(parents=True)
    (made / ("d" * 80) / ("e" * 80) / ("ü" * 60)).write_text("long")
    (made / "empty").touch()
    (made / "large").write_bytes(os.urandom(5_000_001))
    (made / "bin" / "tool").write_text("#!/bin/sh\n")
    (made / "bin" / "tool").chmod(0o755)
    (made / "bin" / "again").symlink_to("tool")
    (made / "lib64").symlink_to("bin")
    for number in range(300):
        (made / f"file-{number}").write_bytes(b"x" * number * 10)
    os.utime(made / "empty", (1_000_000_000.7, 1_000_000_000.7))
    return made


def pack(directory: Path) -> Path:
    archive = directory.with_suffix(".archive")
    packing.pack(directory, archive)
    return archive


def archive_of(tmp_path: Path, *members: tarfile.TarInfo) -> Path:
    """An archive that ``pack`` would not write."""
    archive = tmp_path / "odd.archive"
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    archive.write_bytes(zstandard.compress(plain.getvalue()))
    return archive


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def test_what_comes_out_is_what_went_in(directory, tmp_path):
    packing.unpack(pack(directory), tmp_path / "out")

    assert tree(tmp_path / "out") == tree(directory)


def test_the_size_that_is_told_is_what_the_files_take_on_a_disk(directory, tmp_path):
    told = packing.pack(directory, tmp_path / "archive")

    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    assert told % 4096 == 0
    assert 0 <= told - sum(path.stat().st_size for path in files) < 4096 * len(files)


def test_links_that_lead_out_stay_out(directory, tmp_path):
    (directory / "bin" / "python").symlink_to(sys.executable)
    (directory / "bin" / "up").symlink_to("../../elsewhere")
    (directory / "bin" / "inside").symlink_to("../empty")

    packing.unpack(pack(directory), tmp_path / "out")

    assert {path.name for path in (tmp_path / "out" / "bin").iterdir()} == {"tool", "again", "inside"}


def test_bytecode_is_valid_after_unpacking(tmp_path):
    package = tmp_path / "environment" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("VALUE = 1\n")
    os.utime(package / "__init__.py", (1_700_000_000.9, 1_700_000_000.9))
    py_compile.compile(
        str(package / "__init__.py"), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP
    )

    packing.unpack(pack(tmp_path / "environment"), tmp_path / "out")

    said = subprocess.run(
        [sys.executable, "-B", "-v", "-c", "import package"],
        env={"PYTHONPATH": str(tmp_path / "out")},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    cached = importlib.util.cache_from_source(str(tmp_path / "out" / "package" / "__init__.py"))
    assert f"# {cached} matches" in said


@pytest.mark.parametrize(
    "odd",
    [
        [member("../escaped", size=3)],
        [member("/tmp/escaped", size=3)],
        [member("a/../../escaped", size=3)],
        [member("link", tarfile.SYMTYPE, "/etc")],
        [member("link", tarfile.SYMTYPE, "../..")],
        [member("a/link", tarfile.SYMTYPE, "../../x")],
        [member("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [member("fifo", tarfile.FIFOTYPE)],
        [member("device", tarfile.CHRTYPE)],
        [member("twice", size=1), member("twice", size=1)],
        [member("file", size=1), member("file/below", size=1)],
    ],
    ids=lambda odd: f"{odd[-1].name}-{odd[-1].linkname}",
)
def test_an_archive_that_nobody_packed_like_that_is_refused(odd, tmp_path):
    with pytest.raises(Damaged):
        packing.unpack(archive_of(tmp_path, *odd), tmp_path / "inner" / "out")

    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "inner" / "escaped").exists()


def test_nothing_is_written_through_a_link_of_the_archive(tmp_path):
    odd = [member("here", tarfile.DIRTYPE), member("link", tarfile.SYMTYPE, "here"), member("link/x", size=1)]

    with pytest.raises(Damaged):
        packing.unpack(archive_of(tmp_path, *odd), tmp_path / "out")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_an_archive_that_was_cut_short_is_refused(directory, tmp_path, kept):
    archive = pack(directory)
    os.truncate(archive, int(archive.stat().st_size * kept))

    with pytest.raises(Damaged, match="is damaged"):
        packing.unpack(archive, tmp_path / "out")


def test_what_is_not_an_archive_is_refused(tmp_path):
    archive = tmp_path / "archive"
    archive.write_bytes(b"<html>not found</html>")

    with pytest.raises(Damaged):
        packing.unpack(archive, tmp_path / "out")


def test_what_still_arrives_is_unpacked_as_it_comes(tmp_path):
    directory = tmp_path / "environment"
    directory.mkdir()
    for number in range(50):
        (directory / f"file-{number}").write_bytes(os.urandom(40_000))
    whole = tmp_path / "whole"
    packing.pack(directory, whole)
    contents, growing = whole.read_bytes(), tmp_path / "growing"
    arriving = Arriving(growing)

    with ThreadPoolExecutor(1) as pool:
        unpacking = pool.submit(packing.unpack, arriving, tmp_path / "out")
        with growing.open("wb", buffering=0) as file:
            file.write(contents[:1_000_000])
            try:
                wait_until(lambda: len(list((tmp_path / "out").glob("file-*"))) > 5, what="the first files")
                file.write(contents[1_000_000:])
            finally:
                arriving.end()
        unpacking.result()

    for path in directory.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_what_breaks_off_while_it_arrives_is_damaged(tmp_path):
    directory = tmp_path / "environment"
    directory.mkdir()
    (directory / "file").write_bytes(os.urandom(40_000))
    whole = tmp_path / "whole"
    packing.pack(directory, whole)
    growing = tmp_path / "growing"
    growing.write_bytes(whole.read_bytes()[:20_000])
    arriving = Arriving(growing)
    arriving.end()

    with pytest.raises(Damaged):
        packing.unpack(arriving, tmp_path / "out")
