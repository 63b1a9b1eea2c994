"""Nobody writes beside the payload's files: not even root, nor what a job starts."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cloudburst import archive
from cloudburst.worker import inside
from cloudburst.worker.identities import Identities
from tests.wait import wait_until
from tests.worker import payload
from tests.worker.test_executor import Running

MODULE = '''
import errno, os, shutil, subprocess, sys
from pathlib import Path

HERE = Path(__file__).parent


def beside(job):
    """All ways to write there, and what came of each."""
    tried = {
        "new": lambda: (HERE / "model.out").write_text("x"),
        "own": lambda: (HERE / "model.inp").write_text("x"),
        "nested": lambda: (HERE / "data" / "x.out").write_text("x"),
        "append": lambda: (HERE / "model.inp").open("a"),
        "remove": lambda: (HERE / "model.inp").unlink(),
        "rename": lambda: (HERE / "model.inp").rename(HERE / "other.inp"),
        "link": lambda: os.link(HERE / "model.inp", HERE / "linked"),
        "mkdir": lambda: (HERE / "made").mkdir(),
        "cache": lambda: (HERE / "__pycache__").mkdir(),
        "child": lambda: subprocess.run([sys.executable, "-c", CHILD, str(HERE)], check=True),
        "shell": lambda: subprocess.run("echo x > model.out", shell=True, cwd=HERE, check=True, stderr=-3),
    }
    came = {}
    for way, call in tried.items():
        try:
            call()
            came[way] = "written"
        except (PermissionError, subprocess.CalledProcessError):
            came[way] = "refused"
    return came


CHILD = "import sys; sys.stderr = None; open(sys.argv[1] + '/child.out', 'w')"


def linked(job):
    """A link of its own into the payload opens no way."""
    os.symlink(HERE / "model.inp", "model.inp")
    try:
        os.link(HERE / "model.inp", "hard.inp")
    except OSError:
        pass
    came = []
    for name in ("model.inp", "hard.inp"):
        try:
            with open(name, "a") as file:
                file.write("x")
            came.append(os.path.samefile(name, HERE / "model.inp"))
        except PermissionError:
            came.append(False)
    return came


def copied(job):
    """The way that the documentation tells."""
    shutil.copy(HERE / "model.inp", "model.inp")
    with open("model.inp", "r+") as file:
        file.write("changed")
    shutil.copytree(HERE / "data", "data")
    Path("data", "table.csv").write_text("3,4")
    Path("data", "more.csv").write_text("3,4")
    return Path("model.inp").read_text()[:7] + (HERE / "model.inp").read_text()


def simulator(job):
    raise RuntimeError("  ERROR 305: cannot open report file.")


def locks_up(job):
    os.makedirs("a/b")
    Path("a/b/c").write_text("x")
    os.chmod("a/b", 0o500)
    os.chmod("a", 0)
    return os.getcwd()


def fails(job):
    (HERE / "model.rpt").write_text("x")
'''

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what root may do is taken from it on Linux")


def _write(directory):
    payload.write(directory)
    (directory / "writes.py").write_text(MODULE)
    (directory / "model.inp").write_text("model")
    (directory / "data").mkdir()
    (directory / "data" / "table.csv").write_text("1,2\n")
    return directory


UID = 23456
PYTHON = "/usr/bin/python3"


def _for_all(path: str) -> bool:
    return os.path.exists(path) and all(parent.stat().st_mode & 0o001 for parent in Path(path).parents)


def _as_user(call) -> None:
    child = os.fork()
    if child == 0:
        try:
            os.setuid(UID)
            call()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture(params=["root", "user"])
def unpacked(request):
    """As on a node that runs jobs as the user that it runs as itself."""
    if os.geteuid() != 0 and request.param == "root":
        pytest.skip("needs root")
    if os.geteuid() == 0 and request.param == "user" and not all(map(_for_all, (PYTHON, inside.START))):
        pytest.skip("another user than root cannot reach an interpreter, or this checkout")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        built = archive.build(_write(directory / "source"), directory / "payload.zip")
        target = directory / "payloads" / built.sha256
        archive.extract(built.path, target)
        if os.geteuid() == 0 and request.param == "user":
            subprocess.run(["chown", "-R", str(UID), target], check=True)
            _as_user(lambda: archive.protect(target))
        else:
            archive.protect(target)
        yield target
        archive.unprotect(target)


@pytest.fixture(params=["reuse", "fork"])
def running(request, unpacked):
    identity = Identities(range(UID, UID + 1)).take() if unpacked.stat().st_uid == UID else None
    directory = unpacked.parent / "slot"
    python = PYTHON if identity is not None else sys.executable
    running = Running(directory, unpacked, isolation=request.param, identity=identity, python=python)
    yield running
    running.process.close()


def _value(answer):
    header, body = answer
    assert header["state"] == "finished", header
    return json.loads(body)


def test_a_job_cannot_write_beside_its_model(running, unpacked):
    before = sorted(path.name for path in unpacked.rglob("*"))

    assert set(_value(running.call("writes.beside", {})).values()) == {"refused"}

    assert sorted(path.name for path in unpacked.rglob("*")) == before
    assert (unpacked / "model.inp").read_text() == "model"


def test_links_into_the_payload_open_no_way(running, unpacked):
    assert True not in _value(running.call("writes.linked", {}))
    assert (unpacked / "model.inp").read_text() == "model"


def test_a_copy_in_the_working_directory_can_be_written(running):
    assert _value(running.call("writes.copied", {})) == "changedmodel"


def test_the_error_says_where_to_write(running):
    header, _ = running.call("writes.fails", {})

    assert header["error"].startswith("PermissionError: ")
    assert "working directory" in header["error"]


def test_a_simulator_that_names_no_reason_is_explained(running):
    header, _ = running.call("writes.simulator", {})

    assert "working directory" in header["error"]


def test_folders_that_a_job_has_locked_are_removed_with_its_scratch_directory(running):
    place = Path(_value(running.call("writes.locks_up", {})))

    wait_until(lambda: not place.exists(), what="its end")


def test_a_worker_protects_what_it_unpacks(stack):
    digest = stack.upload(_write(stack.directory / "writing"))
    stack.worker()

    (record,) = stack.run("writes.beside", {}, digest=digest)

    assert set(record.value.values()) == {"refused"}, record


def test_protecting_leaves_what_links_point_to_alone(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("x")
    directory = tmp_path / "payload"
    directory.mkdir()
    (directory / "program").write_text("x")
    (directory / "program").chmod(0o755)
    (directory / "link").symlink_to(outside)

    archive.protect(directory)

    assert outside.stat().st_uid == os.geteuid()
    assert outside.stat().st_mode & stat.S_IWUSR
    assert stat.S_IMODE((directory / "program").stat().st_mode) in {0o755, 0o555}
    archive.unprotect(directory)
    shutil.rmtree(directory)
    assert outside.read_text() == "x"
