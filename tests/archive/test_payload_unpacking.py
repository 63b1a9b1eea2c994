"""Unpacking payloads: any maker's archive is taken, any attack is refused and leaves nothing behind."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudburst import archive
from cloudburst.errors import PayloadError

PIPFILE = "[packages]\n"
WORKER = "def work(params):\n    return params\n"
MIB = 1024 * 1024


def zipped(
    entries: Iterable[tuple[str | zipfile.ZipInfo, bytes | str]], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """A zip file with a Pipfile and these entries."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as file:
        file.writestr("Pipfile", PIPFILE)
        for name, data in entries:
            file.writestr(name, data)
    return memory.getvalue()


def special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o644) << 16
    return info


def flagged(flag: int) -> bytes:
    """An archive whose worker.py has this flag in both of its headers."""
    data = bytearray(zipped([("worker.py", WORKER)]))
    local = data.index(b"worker.py") - 30
    central = data.rindex(b"worker.py") - 46
    data[local + 6] |= flag
    data[central + 8] |= flag
    return bytes(data)


def lying_about_its_size() -> bytes:
    """A bomb of 64 MiB that says in its headers it were 10 bytes."""
    data = bytearray(zipped([("zeros", bytes(64 * MIB))]))
    for at in (data.index(b"zeros") - 30 + 22, data.rindex(b"zeros") - 46 + 24):
        struct.pack_into("<I", data, at, 10)
    return bytes(data)


ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "climbing out": (lambda: zipped([("../evil", "x")]), "leads out of the payload"),
    "climbing out deep inside": (lambda: zipped([("a/b/../../../evil", "x")]), "leads out"),
    "climbing out with backslashes": (lambda: zipped([("..\\evil", "x")]), "leads out"),
    "absolute": (lambda: zipped([("/tmp/evil", "x")]), "leads out"),
    "absolute on a drive": (lambda: zipped([("C:\\evil", "x")]), "leads out"),
    "current folder": (lambda: zipped([("./evil", "x")]), "leads out"),
    "control characters": (lambda: zipped([("evil\x1b[2J.py", "x")]), "control characters"),
    "null byte": (
        lambda: zipped([("evil.py?", "x")]).replace(b"evil.py?", b"evil.py\0"),
        "control characters",
    ),
    "symbolic link": (lambda: zipped([(special("link", stat.S_IFLNK), "/etc/passwd")]), "a symbolic link"),
    "writing through a link": (
        lambda: zipped([(special("link", stat.S_IFLNK), "/tmp"), ("link/evil", "x")]),
        "a symbolic link",
    ),
    "device": (lambda: zipped([(special("null", stat.S_IFCHR), "")]), "neither a file nor a folder"),
    "pipe": (lambda: zipped([(special("pipe", stat.S_IFIFO), "")]), "neither a file nor a folder"),
    "same name in capitals": (lambda: zipped([("a.py", "1"), ("A.py", "2")]), "are the same on some systems"),
    "file and folder of one name": (lambda: zipped([("a", "1"), ("a/b", "2")]), "are the same"),
    "encrypted": (lambda: flagged(0x1), "encrypted"),
    "unusual compression": (
        lambda: zipped([("a.py", "1")], zipfile.ZIP_LZMA),
        "compressed in an unusual way",
    ),
    "bomb": (lambda: zipped([("zeros", bytes(64 * MIB))]), "more than 200 times its size"),
    "bomb of many files": (lambda: zipped((f"{i}", bytes(MIB)) for i in range(40)), "more than 200 times"),
    "bomb that lies": (lying_about_its_size, "damaged"),
    "larger than the limit": (lambda: zipped([("noise", os.urandom(9 * MIB))]), "more than 8 MiB"),
    "too many files": (lambda: zipped([(f"f/{i}", "") for i in range(20_001)]), "at most 20000 are allowed"),
    "a list of files to fill the memory": (lambda: zipped([]) + b"PK\1\2" * 200_001, "too many files"),
    "no Pipfile": (lambda: zipped([("a.py", "1")]).replace(b"Pipfile", b"pipFILE"), "holds no Pipfile"),
    "not a zip file": (lambda: b"#!/bin/sh\nrm -rf /\n" * 50, "damaged, or not a zip file"),
    "empty": (lambda: b"", "it is empty"),
    "truncated": (lambda: zipped([("a.py", os.urandom(5000))])[:-3000], "damaged"),
    "corrupt": (
        lambda: zipped([("a.py", WORKER)], zipfile.ZIP_STORED).replace(b"return params", b"return stolen"),
        "damaged, or not a zip file: Bad CRC-32",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_and_leaves_nothing_behind(attack: str, tmp_path: Path) -> None:
    make, reason = ATTACKS[attack]
    path = tmp_path / "inbox" / "worker.zip"
    path.parent.mkdir()
    path.write_bytes(make())

    with pytest.raises(PayloadError, match=reason) as caught:
        archive.extract(
            path, tmp_path / "payloads" / "one", limit_bytes=8 * MIB if "limit" in attack else 512 * MIB
        )

    assert str(path) in str(caught.value)
    assert list((tmp_path / "payloads").iterdir()) == []
    assert sorted(item.name for item in tmp_path.iterdir()) == ["inbox", "payloads"]
    assert not Path("/tmp/evil").exists()


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = zipped([("a.py", "1"), ("a.py", "2")])
    (tmp_path / "worker.zip").write_bytes(data)

    with pytest.raises(PayloadError, match="are the same"):
        archive.extract(tmp_path / "worker.zip", tmp_path / "payload")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), st.integers(0, 400))
def test_damage_of_any_kind_is_refused_or_harmless(
    tmp_path: Path, changes: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(zipped([("wörker.py", WORKER)]))
    for at, value in changes:
        data[at % len(data)] = value
    (tmp_path / "worker.zip").write_bytes(data[: end or len(data)])

    try:
        archive.extract(tmp_path / "worker.zip", tmp_path / "payload")
    except PayloadError:
        assert not (tmp_path / "payload").exists()
    shutil.rmtree(tmp_path / "payload", ignore_errors=True)

    assert [item.name for item in tmp_path.iterdir()] == ["worker.zip"]


class TestArchivesOfOthers:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        folder = tmp_path / "work" / "model"
        (folder / "sub").mkdir(parents=True)
        (folder / "Pipfile").write_text(PIPFILE)
        (folder / "worker.py").write_text(WORKER)
        (folder / "sub" / "Pipfile").write_text("of another project")
        (folder / "solver").write_text("#!/bin/sh\n")
        (folder / "solver").chmod(0o755)
        return folder

    def assert_unpacked(self, path: Path, target: Path) -> None:
        archive.extract(path, target)
        assert (target / "Pipfile").read_text() == PIPFILE
        assert (target / "worker.py").read_text() == WORKER
        assert (target / "sub" / "Pipfile").exists()

    @pytest.mark.parametrize("where", ["model", "work"])
    def test_made_by_zip_with_or_without_a_folder_around(
        self, model: Path, tmp_path: Path, where: str
    ) -> None:
        if shutil.which("zip") is None:
            pytest.skip("no zip program on this machine")
        inside = model if where == "model" else model.parent
        subprocess.run(["zip", "-qr", str(tmp_path / "worker.zip"), "."], cwd=inside, check=True)

        self.assert_unpacked(tmp_path / "worker.zip", tmp_path / "payload")
        assert os.access(tmp_path / "payload" / "solver", os.X_OK)

    @pytest.mark.parametrize("where", ["model", "work"])
    def test_made_by_python(self, model: Path, tmp_path: Path, where: str) -> None:
        inside = model if where == "model" else model.parent
        shutil.make_archive(str(tmp_path / "worker"), "zip", inside)

        self.assert_unpacked(tmp_path / "worker.zip", tmp_path / "payload")

    def test_made_on_windows_or_a_mac(self, model: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "worker.zip", "w") as file:
            for name in ("Pipfile", "worker.py", "sub/Pipfile"):
                info = zipfile.ZipInfo(f"model\\{name}".replace("/", "\\"))
                info.create_system = 0
                file.writestr(info, (model / name).read_bytes())
            file.writestr("__MACOSX/model/._worker.py", b"resource fork")
            file.writestr(".DS_Store", b"")

        self.assert_unpacked(tmp_path / "worker.zip", tmp_path / "payload")
        assert not list(tmp_path.glob("payload/**/*._worker.py"))

    def test_with_a_repository_and_a_virtual_environment_inside_these_are_left_out(
        self, model: Path, tmp_path: Path
    ) -> None:
        for name in (".git/HEAD", ".venv/bin/activate", "__pycache__/worker.pyc"):
            (model / name).parent.mkdir(parents=True)
            (model / name).write_text("")
        shutil.make_archive(str(tmp_path / "worker"), "zip", model)

        self.assert_unpacked(tmp_path / "worker.zip", tmp_path / "payload")
        assert {".git", ".venv", "__pycache__"}.isdisjoint(os.listdir(tmp_path / "payload"))

    @pytest.mark.parametrize("prefix", ["./", ".\\", "./model/"])
    def test_with_a_dot_before_its_names(self, tmp_path: Path, prefix: str) -> None:
        with zipfile.ZipFile(tmp_path / "worker.zip", "w") as file:
            file.writestr("./", "")
            for name in ("Pipfile", "worker.py", "data/a.csv"):
                file.writestr(f"{prefix}{name}", "")

        archive.extract(tmp_path / "worker.zip", tmp_path / "payload")

        found = sorted(str(p.relative_to(tmp_path / "payload")) for p in (tmp_path / "payload").rglob("*.*"))
        assert found == ["data/a.csv", "worker.py"]

    @pytest.mark.parametrize("name", ["x" * 256, "d/" * 600 + "x", "/".join(["d" * 200] * 6)])
    def test_with_names_that_no_disk_takes_is_refused_as_a_payload(self, tmp_path: Path, name: str) -> None:
        with zipfile.ZipFile(tmp_path / "worker.zip", "w") as file:
            file.writestr("Pipfile", "")
            file.writestr(name, "")

        with pytest.raises(PayloadError, match=r"longer than (255|1,024) bytes"):
            archive.extract(tmp_path / "worker.zip", tmp_path / "payload")
        assert not (tmp_path / "payload").exists()

    def test_with_files_beside_the_folder_of_the_pipfile_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "worker.zip", "w") as file:
            file.writestr("model/Pipfile", PIPFILE)
            file.writestr("data.csv", "")

        with pytest.raises(PayloadError, match=r"the Pipfile is in model/ but data.csv is not"):
            archive.extract(tmp_path / "worker.zip", tmp_path / "payload")


class TestAllOrNothing:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        (tmp_path / "worker.zip").write_bytes(zipped([(f"data/{i}.csv", "1\n") for i in range(200)]))
        return tmp_path / "worker.zip"

    def test_what_is_there_already_stays(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "payload").mkdir()

        archive.extract(path, tmp_path / "payload")

        assert list((tmp_path / "payload").iterdir()) == []

    def test_of_many_at_once_each_sees_a_complete_payload(self, path: Path, tmp_path: Path) -> None:
        seen: list[int] = []

        def unpack() -> None:
            archive.extract(path, tmp_path / "payload")
            seen.append(len(list((tmp_path / "payload" / "data").iterdir())))

        threads = [threading.Thread(target=unpack) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert seen == [200] * 6
        assert sorted(item.name for item in tmp_path.iterdir()) == ["payload", "worker.zip"]

    def test_an_archive_that_is_gone_is_the_systems_error_not_the_payloads(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            archive.extract(tmp_path / "gone.zip", tmp_path / "payload")
