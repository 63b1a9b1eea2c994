"""What Python does at its end is done for executors too: files are written, functions called."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.wait import wait_until
from tests.worker import payload
from tests.worker.conftest import MiniStack

MODULE = """
import atexit, os, time

LOG = open(os.path.join({place!r}, "log"), "a")
LOG.write("imported\\n")
KEPT = []


def note(text):
    with open(os.path.join({place!r}, "ends"), "a") as file:
        file.write(text + "\\n")


def imported_ends():
    note("module")


atexit.register(imported_ends)


def append(job):
    LOG.write("%d\\n" % job["n"])


def keep_open(job):
    KEPT.append(open(os.path.join({place!r}, "kept"), "a"))
    KEPT[-1].write("%d\\n" % job["n"])


def at_the_end(job):
    atexit.register(note, "job %d" % job["n"])


def never_ends(job):
    atexit.register(time.sleep, 6666)


def hangs(job):
    time.sleep(6666)
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    stack = MiniStack(tmp_path_factory.mktemp("stack"))
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


class World:
    """A worker with a payload of one isolation, whose jobs write in ``place``."""

    def __init__(self, stack: MiniStack, place: Path, isolation: str) -> None:
        self.stack, self.place, self.isolation = stack, place, isolation
        directory = payload.write(place / "payload", {"ends.py": MODULE.format(place=str(place))})
        (directory / "cloudburst.toml").write_text(f'isolation = "{isolation}"\n')
        self.digest = stack.upload(directory)
        self.worker = stack.worker(slots=2)

    def run(self, function: str, count: int = 1, **spec):
        jobs = [{"n": n} for n in range(count)]
        return self.stack.run(f"ends.{function}", *jobs, digest=self.digest, **spec)

    def stop(self) -> None:
        self.worker.send_signal(signal.SIGTERM)
        assert self.worker.wait(20) == 0

    def lines(self, name: str) -> list[str]:
        path = self.place / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(params=["reuse", "fork"])
def world(request, stack, tmp_path):
    world = World(stack, tmp_path, request.param)
    yield world
    world.worker.kill()
    world.worker.wait()


def test_a_file_of_a_module_holds_what_jobs_have_written_when_they_have_ended(world):
    world.run("append", 12)

    lines = world.lines("log")
    assert sorted(line for line in lines if line != "imported") == sorted(map(str, range(12)))
    assert lines.count("imported") <= 2  # once per executor


def test_a_file_that_a_job_has_left_open_is_written_when_the_worker_stops(world):
    world.run("keep_open", 12)

    world.stop()

    assert sorted(world.lines("kept")) == sorted(map(str, range(12)))


def test_who_asked_for_it_is_called_at_the_end(world):
    world.run("at_the_end", 4)
    if world.isolation == "fork":
        assert sorted(world.lines("ends")) == [f"job {n}" for n in range(4)]

    world.stop()

    ends = world.lines("ends")
    assert sorted(line for line in ends if line != "module") == [f"job {n}" for n in range(4)]
    assert 1 <= ends.count("module") <= 2


def test_an_executor_that_does_not_end_is_killed(world):
    if world.isolation == "fork":
        pytest.skip("there it is the job that does not end")
    world.run("never_ends")

    world.stop()


def test_what_finished_jobs_have_written_outlives_the_end_of_another(world):
    world.run("append", 2)

    (record,) = world.run("hangs", timeout_s=1)

    assert record.state == "failed"
    wait_until(lambda: {"0", "1"} <= set(world.lines("log")), what="their lines")
