"""Modules imported ahead: new code, and what replaces a crashed executor, begin with them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cloudburst.model import PayloadSettings, Provenance
from cloudburst.worker import spares, standins
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.runtime import Runtime
from cloudburst.worker.spares import Spares
from cloudburst.worker.standins import StandIns
from tests.wait import wait_until
from tests.worker import payload
from tests.worker.conftest import MiniStack
from tests.worker.package_index import PackageIndex, make_wheel
from tests.worker.test_executor import Running

pytestmark = pytest.mark.slow

BASIN = """
import os, sys
kind = [VERSION, os.environ["OMP_NUM_THREADS"], "wave" if "wave" in sys.modules else "-"]
with open(os.environ["MARKS"], "a") as file:
    file.write(" ".join([str(os.getpid()), *kind]) + "\\n")
"""
"""Tells who has imported it, in which environment, with how many threads, and what before."""

USUAL = ["1.0", "1", "-"]

WORK = """
import os, signal, basin

def work(params):
    if params.get("crash") and os.environ["CLOUDBURST_ATTEMPT"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"name": %r, "pid": os.getpid(), "parent": os.getppid(), "basin": basin.VERSION,
            "payload": os.environ["CLOUDBURST_PAYLOAD"], "dir": os.environ["CLOUDBURST_PAYLOAD_DIR"],
            "cwd": os.getcwd(), "temp": os.environ["TMPDIR"]}
"""

PRELOAD = 'preload = ["basin"]\n'


class Seen:
    """A stack with one worker of one slot, and what its executors have done."""

    def __init__(self, stack: MiniStack, index: PackageIndex) -> None:
        self.stack = stack
        self._index = index
        self._marks = stack.directory / "marks"
        self._used: set[int] = set()
        self._versions = 0

    def start(self) -> subprocess.Popen[bytes]:
        self.worker = self.stack.worker(
            PIP_INDEX_URL=self._index.url, MARKS=str(self._marks), CLOUDBURST_JOB_VARIABLES="MARKS"
        )
        return self.worker

    def version(self, settings: str = PRELOAD, basin: str = "1.0") -> str:
        """The digest of a payload with code that there was not before."""
        self._versions += 1
        folder = self.stack.directory / f"version-{self._versions}"
        folder.mkdir()
        (folder / "Pipfile").write_text(f'[packages]\nbasin = "=={basin}"\n')
        (folder / "worker.py").write_text(WORK % folder.name)
        (folder / "cloudburst.toml").write_text(settings)
        return self.stack.upload(folder)

    def run(self, digest: str, **description: object) -> dict:
        """What a job on that payload returns."""
        (record,) = self.stack.run("worker.work", description, digest=digest)
        assert record.state == "finished", record.error
        self._used |= {record.value["pid"], record.value["parent"]}
        return record.value

    def standing_in(self) -> int:
        """The process that has imported the module and run no job, once there is one."""
        return wait_until(self._unused, 30, "an executor that stands in")[-1]

    def _unused(self) -> list[int]:
        marks = [line.split() for line in self._marks.read_text().splitlines()]
        imported = [int(pid) for pid, *kind in marks if kind == USUAL]
        return [pid for pid in imported if pid not in self._used and lives(pid)]


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def seen(stack: MiniStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("wheels")
    index = PackageIndex(folder, [make_wheel(folder, "basin", v, code=BASIN) for v in ("1.0", "2.0")])
    seen = Seen(stack, index)
    seen.start()
    yield seen
    index.close()


def test_new_code_of_the_same_environment_begins_with_its_modules_imported(seen):
    first = seen.run(seen.version())
    ready = seen.standing_in()
    digest = seen.version()

    second = seen.run(digest)

    assert second["pid"] == ready
    assert second["name"] != first["name"]
    assert (second["payload"], Path(second["dir"]).name) == (digest, digest)
    assert second["temp"] == second["cwd"] != first["cwd"]
    assert seen.standing_in() not in {first["pid"], second["pid"]}


def test_an_executor_that_crashed_is_replaced_by_one_that_has_imported(seen):
    digest = seen.version()
    seen.run(digest)
    ready = seen.standing_in()

    assert seen.run(digest, crash=True)["pid"] == ready


def test_an_executor_is_renewed_by_one_that_has_imported(seen):
    digest = seen.version(PRELOAD + "max_jobs_per_executor = 1\n")
    seen.run(digest)
    ready = seen.standing_in()

    assert seen.run(digest)["pid"] == ready


def test_a_payload_whose_jobs_are_forked_takes_it_too(seen):
    seen.run(seen.version())
    ready = seen.standing_in()

    value = seen.run(seen.version(PRELOAD + 'isolation = "fork"\n'))

    assert value["parent"] == ready != value["pid"]


@pytest.mark.parametrize(
    ("settings", "basin"),
    [
        ("", "1.0"),
        ('preload = ["wave", "basin"]\n', "1.0"),
        (PRELOAD + "cpus_per_job = 2\n", "1.0"),
        (PRELOAD, "2.0"),
    ],
)
def test_another_environment_other_modules_or_threads_get_an_executor_of_their_own(seen, settings, basin):
    seen.run(seen.version())
    ready = seen.standing_in()

    value = seen.run(seen.version(settings, basin))

    assert value["pid"] != ready
    assert value["basin"] == basin


def test_it_dies_with_its_worker(seen):
    seen.run(seen.version())
    ready = seen.standing_in()

    seen.worker.kill()

    seen.worker.wait()
    wait_until(lambda: not lives(ready), 10, "its end")
    seen.start()


# -- the executor ----------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """What a function of a payload with these files returns, with these modules imported ahead."""
    started: list[Running] = []

    def run(function: str, files: dict[str, str], *modules: str):
        folder = tmp_path / str(len(started))
        (folder / "payload" / "wave").mkdir(parents=True)  # a mere directory, of data perhaps
        directory = payload.write(folder / "payload", files)
        started.append(Running(folder / "slot", directory, preload=modules))
        header, body = started[-1].call(function)
        assert header["state"] == "finished", header["traceback"]
        return json.loads(body)

    yield run
    for running in started:
        running.process.close()


def test_a_module_of_the_payload_hides_one_of_its_name_that_was_imported_ahead(run):
    files = {
        "colorsys.py": "def work(p):\n    return 'ours'\n",
        "worker.py": "import sys, colorsys, wave\n"
        "def work(p):\n    return [colorsys.work(p), hasattr(wave, 'open')]\n",
    }

    assert run("colorsys.work", files, "colorsys", "wave") == "ours"
    assert run("worker.work", files, "colorsys", "wave") == ["ours", True]


def test_only_modules_of_the_environment_are_imported_ahead(run):
    files = {"worker.py": "import os\nSEEN = 'CLOUDBURST_JOB' in os.environ\ndef work(p):\n    return SEEN\n"}

    assert run("worker.work", files, "worker") is True


def test_a_module_that_cannot_be_imported_ahead_is_no_error(run):
    files = {"worker.py": "import sys\ndef work(p):\n    return 'wave' in sys.modules\n"}

    assert run("worker.work", files, "no_such_module", "antigravity.no", "wave") is True


# -- when, and how many ----------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def kept(clock):
    kept = Spares(1, clock)
    yield kept
    kept.close()


@pytest.fixture
def runtime(tmp_path):
    """The runtime of a payload with these modules to be imported ahead."""
    directory = payload.write(tmp_path / "payload", {"worker.py": ""})
    provenance = Provenance("digest", "environment", "3.11", "linux", "0.1.0")

    def runtime(*modules: str) -> Runtime:
        settings = PayloadSettings(preload=modules)
        return Runtime("digest", directory, Path(sys.executable), settings, provenance)

    return runtime


@pytest.fixture
def stand_in(tmp_path) -> Callable[[Runtime], ExecutorProcess]:
    def stand_in(runtime: Runtime) -> ExecutorProcess:
        directory = tmp_path / f"slot-{'-'.join(runtime.settings.preload)}"
        environ = {"PATH": os.environ["PATH"]}
        return ExecutorProcess(
            runtime, directory, environ, kept_dir=tmp_path, points=False, allow_pickle=False, stands_in=True
        )

    return stand_in


def test_it_is_started_when_a_slot_has_been_free_or_jobs_take_longer(clock, kept, runtime):
    wanted = StandIns(kept, clock)
    wanted.want(runtime())
    wanted.want(runtime("wave"))
    clock.now += standins.BUSY_S / 2
    assert wanted.due(free=False) is None
    clock.now += standins.QUIET_S / 2
    assert wanted.due(free=True) is None
    clock.now += standins.QUIET_S / 2
    assert wanted.due(free=True) == runtime("wave")

    wanted.want(runtime("wave"))
    clock.now += standins.BUSY_S
    assert wanted.due(free=False) == runtime("wave")
    assert wanted.due(free=False) is None


def test_one_that_dies_is_replaced_when_another_executor_has_been_started_and_not_before(
    clock, kept, runtime, stand_in
):
    wanted = StandIns(kept, clock)
    executor = stand_in(runtime("wave"))
    kept.keep(executor)
    wanted.want(runtime("wave"))
    os.kill(executor.process.pid, signal.SIGKILL)
    wait_until(lambda: not executor.alive())

    kept.enforce({runtime("wave").basis})

    assert len(kept) == 0
    clock.now += 2 * standins.BUSY_S
    assert wanted.due(free=True) is None
    wanted.want(runtime("wave"))
    clock.now += standins.QUIET_S
    assert wanted.due(free=True) == runtime("wave")


def test_few_are_kept_and_for_as_long_as_executors_of_their_kind_run_jobs(clock, kept, runtime, stand_in):
    runtimes = [runtime(name) for name in ("wave", "csv", "colorsys")]

    for each in runtimes:
        kept.keep(stand_in(each))

    assert [kept.has_stand_in(each.basis) for each in runtimes] == [False, True, True]
    clock.now += spares.IDLE_S + 1
    kept.enforce({runtimes[1].basis})
    assert [kept.has_stand_in(each.basis) for each in runtimes] == [False, True, False]
