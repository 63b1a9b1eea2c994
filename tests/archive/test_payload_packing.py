"""Packing payloads: equal contents, equal bytes; what would not run is refused with its reason."""

from __future__ import annotations

import os
import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cloudburst import archive
from cloudburst.archive import listing, packing
from cloudburst.archive.listing import portable_name
from cloudburst.errors import PayloadError

PIPFILE = '[packages]\nsix = "*"\n'
WORKER = "def work(params):\n    return params\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The smallest payload that runs."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "Pipfile").write_text(PIPFILE)
    (folder / "worker.py").write_text(WORKER)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "payload.zip"


def names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as file:
        return file.namelist()


def write(folder: Path, name: str, text: str = "x = 1\n") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class TestSameContentsSameBytes:
    def test_whatever_the_times_the_order_of_creation_and_the_leftovers(
        self, model: Path, tmp_path: Path
    ) -> None:
        write(model, "a/b.py")
        other = tmp_path / "other"
        for name in ("a/b.py", "worker.py", "Pipfile"):
            write(other, name, (model / name).read_text())
        os.utime(other / "worker.py", (1, 1))
        (other / "worker.py").chmod(0o600)
        write(other, "__pycache__/worker.cpython-311.pyc")
        write(other, "worker.zip", "an earlier one")

        first = archive.build(model, tmp_path / "1.zip")
        second = archive.build(other, tmp_path / "2.zip")

        assert first.sha256 == second.sha256
        assert first.path.read_bytes() == second.path.read_bytes()

    def test_on_any_machine(self, model: Path, target: Path) -> None:
        payload = archive.build(model, target)

        # When this changes, every payload gets a new name and is fetched once more.
        assert payload.sha256 == "1d79b24444c7173419281de798e7cb11495521db922d83bc77336b8641a5ed51"
        assert (payload.size, payload.files) == (target.stat().st_size, 2)

    def test_names_that_macos_decomposes_are_composed(self, model: Path, target: Path) -> None:
        write(model, "Einfu\u0308hrung.py")

        archive.build(model, target)

        assert "Einf\u00fchrung.py" in names_in(target)

    def test_packed_into_the_directory_itself_it_leaves_itself_out(self, model: Path) -> None:
        first = archive.build(model, model / "mine.zip")
        second = archive.build(model, model / "mine.zip")

        assert first == second
        assert names_in(model / "mine.zip") == ["Pipfile", "worker.py"]

    def test_a_changed_file_changes_the_digest(self, model: Path, target: Path) -> None:
        before = archive.build(model, target).sha256
        write(model, "worker.py", WORKER + "# changed\n")

        assert archive.build(model, target).sha256 != before

    def test_the_executable_bit_is_kept(self, model: Path, target: Path, tmp_path: Path) -> None:
        write(model, "solver.sh", "#!/bin/sh\n").chmod(0o750)
        archive.build(model, target)

        archive.extract(target, tmp_path / "payload")

        assert os.access(tmp_path / "payload" / "solver.sh", os.X_OK)
        assert not os.access(tmp_path / "payload" / "worker.py", os.X_OK)


class TestLeftOut:
    def test_leftovers_of_tools_hidden_files_and_virtual_environments(
        self, model: Path, target: Path
    ) -> None:
        for name in (".git/config", ".venv/bin/python", ".env", "__pycache__/w.pyc", "old.pyc", "a/.hidden"):
            write(model, name)
        write(model, "env/pyvenv.cfg")
        write(model, "env/lib/big.py")

        archive.build(model, target)

        assert names_in(target) == ["Pipfile", "worker.py"]

    @pytest.mark.parametrize(
        ("pattern", "left_out"),
        [
            ("*.csv", {"a.csv", "data/b.csv", "data/old/c.csv"}),
            ("/*.csv", {"a.csv"}),
            ("data/", {"data/b.csv", "data/old/c.csv", "data/d.py"}),
            ("data/*.csv", {"data/b.csv"}),
            ("data/**/*.csv", {"data/b.csv", "data/old/c.csv"}),
            ("old", {"data/old/c.csv"}),
            ("d?ta/old", {"data/old/c.csv"}),
            ("# *.csv", set()),
            ("a.csv/", set()),
        ],
    )
    def test_what_the_ignore_file_lists(
        self, model: Path, target: Path, pattern: str, left_out: set[str]
    ) -> None:
        every = {"a.csv", "data/b.csv", "data/old/c.csv", "data/d.py"}
        for name in every:
            write(model, name)
        write(model, ".cloudburstignore", f"\n{pattern}\n")

        archive.build(model, target)

        assert every - set(names_in(target)) == left_out

    def test_exceptions_in_the_ignore_file_are_refused_rather_than_misread(
        self, model: Path, target: Path
    ) -> None:
        write(model, ".cloudburstignore", "*.csv\n!keep.csv\n")

        with pytest.raises(PayloadError, match=r"!keep.csv: exceptions with '!' are not supported"):
            archive.build(model, target)


class TestLinks:
    def test_inside_the_tree_stand_for_what_they_point_to(self, model: Path, target: Path) -> None:
        write(model, "lib/net.inp", "[PIPES]\n")
        (model / "net.inp").symlink_to("lib/net.inp")
        (model / "models").symlink_to("lib")

        archive.build(model, target)

        with zipfile.ZipFile(target) as file:
            assert file.read("net.inp") == file.read("models/net.inp") == b"[PIPES]\n"

    def test_out_of_the_tree_are_refused(self, model: Path, target: Path) -> None:
        (model / "secrets").symlink_to("/etc/passwd")

        with pytest.raises(PayloadError, match="secrets: a link to /etc/passwd, which is outside"):
            archive.build(model, target)

    def test_to_nothing_are_refused(self, model: Path, target: Path) -> None:
        (model / "data").symlink_to("gone")

        with pytest.raises(PayloadError, match="data: a link to gone, which cannot be reached"):
            archive.build(model, target)

    def test_to_a_folder_around_them_are_refused(self, model: Path, target: Path) -> None:
        (model / "sub").mkdir()
        (model / "sub" / "up").symlink_to("..")

        with pytest.raises(PayloadError, match="sub/up: a link to a folder that holds it"):
            archive.build(model, target)


class TestRefused:
    def refusal(self, model: Path, target: Path, **options: object) -> str:
        with pytest.raises(PayloadError) as caught:
            archive.build(model, target, **options)  # type: ignore[arg-type]
        assert not target.exists()
        return str(caught.value)

    def test_no_directory(self, tmp_path: Path, target: Path) -> None:
        assert "no such directory" in self.refusal(tmp_path / "gone", target)

    def test_an_empty_directory(self, tmp_path: Path, target: Path) -> None:
        (tmp_path / "empty").mkdir()

        assert "holds no files" in self.refusal(tmp_path / "empty", target)

    def test_no_pipfile(self, model: Path, target: Path) -> None:
        (model / "Pipfile").unlink()

        assert "no Pipfile" in self.refusal(model, target)

    def test_a_pipfile_that_is_not_toml_with_the_line(self, model: Path, target: Path) -> None:
        write(model, "Pipfile", "[packages]\nsix = \n")

        assert "Pipfile: not valid TOML: Invalid value (at line 2" in self.refusal(model, target)

    def test_a_lock_that_is_not_json(self, model: Path, target: Path) -> None:
        write(model, "Pipfile.lock", "<<<<<<< HEAD\n")

        assert "Pipfile.lock: not a lock of pipenv" in self.refusal(model, target)

    def test_a_package_of_the_payload_that_is_not_packed(self, model: Path, target: Path) -> None:
        write(model, "Pipfile", '[packages]\nmylib = {path = "mylib"}\n')
        (model / "mylib").mkdir()
        write(model / "mylib", "pyproject.toml", "")
        write(model, ".cloudburstignore", "mylib/\n")

        assert "[packages] mylib: the payload has no package at 'mylib'" in self.refusal(model, target)

    @pytest.mark.parametrize("name", ["cloudburst.py", "cloudburst/__init__.py", "cloudburst/results.py"])
    def test_a_module_that_hides_cloudbursts_own(self, model: Path, target: Path, name: str) -> None:
        write(model, name)

        assert f"{name}: hides CloudBurst's own module" in self.refusal(model, target)

    def test_a_function_of_the_program_that_runs_jobs(self, model: Path, target: Path) -> None:
        write(model, "__main__.py", "def work(params): pass\n")

        assert archive.build(model, target, function="worker.work").files > 2  # it may be there
        with pytest.raises(PayloadError, match="__main__ is the program that runs jobs"):
            archive.build(model, target, function="__main__.work")

    @pytest.mark.parametrize(
        ("names", "says"),
        [
            (["ü" * 127 + "x.csv"], "longer than 255 bytes: shorten it"),
            (["d" * 200] * 6, "longer than 1,024 bytes with its folders: shorten it"),
            (["d"] * 700, "longer than 1,024 bytes with its folders: shorten it"),
        ],
    )
    def test_names_that_some_system_does_not_take(
        self, model: Path, target: Path, names: list[str], says: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if len(names) == 1:  # this one takes no such file either
            with pytest.raises(PayloadError, match=says):
                portable_name(names[0])
            return
        monkeypatch.chdir(model)
        for name in names:
            os.mkdir(name)
            os.chdir(name)
        Path("data.csv").touch()

        assert says in self.refusal(model, target)

    def test_a_file_that_grows_while_it_is_packed(
        self, model: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = write(model, "run.log", "line\n")
        listed = packing.members

        def then_it_grows(*arguments: Any, **options: Any) -> Any:
            found = listed(*arguments, **options)
            log.write_text("line\nanother\n")
            return found

        monkeypatch.setattr(packing, "members", then_it_grows)

        assert "run.log: changes while it is packed" in self.refusal(model, target)

    def test_far_too_many_files_are_not_all_looked_at(
        self, model: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing, "FILES_LOOKED_AT", 50)
        monkeypatch.setattr(packing, "FILES_LOOKED_AT", 50)
        monkeypatch.setattr(packing, "FILES_LIMIT", 20)
        for number in range(60):
            write(model, f"data/{number}.csv")

        assert "50 or more files, at most 20 are allowed" in self.refusal(model, target)

    def test_no_module(self, model: Path, target: Path) -> None:
        (model / "worker.py").unlink()

        assert "no Python module" in self.refusal(model, target)

    def test_syntax_errors_with_file_and_line_all_at_once_and_without_traces(
        self, model: Path, target: Path
    ) -> None:
        write(model, "worker.py", "def work(params):\n    return params +\n")
        write(model, "lib/deep.py", "return 1\n")
        write(model, "lib/null.py", "a\0b\n")

        message = self.refusal(model, target)

        assert "worker.py:2: invalid syntax" in message
        assert "lib/deep.py:1: 'return' outside function" in message
        assert "lib/null.py:1: " in message
        assert not list(model.rglob("*.pyc"))

    def test_syntax_of_a_python_newer_than_this_one_is_left_to_that_one(
        self, model: Path, target: Path
    ) -> None:
        write(model, "Pipfile", '[requires]\npython_version = "3.99"\n')
        write(model, "worker.py", "def work(params) ==> params\n")

        assert archive.build(model, target).files == 2

    def test_more_than_the_limit_with_the_largest_files(self, model: Path, target: Path) -> None:
        write(model, "data/rain.csv", "0" * 3_000_000)

        message = self.refusal(model, target, limit_bytes=2 * 1024 * 1024)

        assert "2.9 MiB, at most 2.0 MiB are allowed. Largest: data/rain.csv (2.9 MiB)" in message

    @pytest.mark.parametrize("name", ["line\nfeed.py", "back\\slash.py", os.fsdecode(b"latin\xe9.py")])
    def test_file_names_that_are_not_portable(self, model: Path, target: Path, name: str) -> None:
        write(model, name)

        assert "rename it" in self.refusal(model, target)

    @pytest.mark.parametrize(
        "pair", [("Net.inp", "net.INP"), ("e\u0301.py", "\u00e9.py"), ("Lib", "lib/x.py")]
    )
    def test_names_that_are_one_on_other_systems(
        self, model: Path, target: Path, pair: tuple[str, str]
    ) -> None:
        for name in pair:
            write(model, name)

        assert "are the same on some systems" in self.refusal(model, target)

    def test_sockets_and_pipes(self, model: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(model)  # names of sockets have to be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("control")

            assert "control: neither a file nor a folder" in self.refusal(model, target)


class TestFunction:
    @pytest.fixture
    def rich(self, model: Path) -> Path:
        write(model, "pkg/__init__.py", "from .inner import deep\n")
        write(model, "pkg/inner.py", "def deep(p): ...\n")
        write(
            model,
            "worker.py",
            "import functools, os.path\n"
            "from pkg.inner import deep as aliased\n"
            "async def later(p): ...\n"
            "class Model:\n    def run(self, p): inside = 1\n"
            "work = functools.partial(Model.run, None)\n"
            "try:\n    import fast\nexcept ImportError:\n    def slow(p): hidden = 1\n"
            "first, (second, *rest) = range(3), [1, 2]\n",
        )
        return model

    @pytest.mark.parametrize(
        "function",
        [
            "worker.work",
            "worker.later",
            "worker.aliased",
            "worker.slow",
            "worker.fast",
            "worker.second",
            "worker.rest",
            "worker.Model.run",
            "pkg.deep",
            "pkg.inner.deep",
            "worker.os.path.join",
        ],
    )
    def test_is_found_without_importing(self, rich: Path, target: Path, function: str) -> None:
        archive.build(rich, target, function=function)

    @pytest.mark.parametrize(
        ("function", "reason"),
        [
            ("work", "give module and function, such as worker.work"),
            ("worker.", "give module and function"),
            ("os.system", r"the payload has no module os \(it has "),
            ("worker.hidden", r"worker.py does not define hidden \(it defines Model, aliased"),
            ("worker.inside", "does not define inside"),
            ("pkg.run", r"pkg/__init__.py does not define run \(it defines deep\)"),
        ],
    )
    def test_that_is_not_there_is_refused(self, rich: Path, target: Path, function: str, reason: str) -> None:
        with pytest.raises(PayloadError, match=reason):
            archive.build(rich, target, function=function)

    @pytest.mark.parametrize("text", ["from os import *\n", "def __getattr__(name): return print\n"])
    def test_that_only_importing_would_show_is_accepted(self, model: Path, target: Path, text: str) -> None:
        write(model, "worker.py", text)

        archive.build(model, target, function="worker.work")


def test_a_full_or_forbidden_place_is_reported_by_name(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(PayloadError, match="file: "):
        archive.build(model, tmp_path / "file" / "payload.zip")
