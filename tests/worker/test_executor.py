"""The executor as a process of its own, seen through its socket as the worker sees it."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import psutil
import pytest

from cloudburst.model import PayloadSettings, Provenance
from cloudburst.points import line
from cloudburst.rqwire.leases import Claim
from cloudburst.worker import inside, interpreters
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.replies import Ended, Points, Summary
from cloudburst.worker.runtime import Runtime
from cloudburst.worker.verdict import ending
from tests.wait import wait_until
from tests.worker import payload
from tests.worker.package_index import make_wheel

PROVENANCE = Provenance("digest", "environment", "3.11", "linux", "0.1.0")

ENVIRON = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


class Running:
    """An executor, and what it has said."""

    def __init__(
        self,
        directory: Path,
        payload_dir: Path,
        *,
        allow_pickle=True,
        python=sys.executable,
        identity=None,
        **settings,
    ):
        runtime = Runtime("digest", payload_dir, Path(python), PayloadSettings(**settings), PROVENANCE)
        self.process = ExecutorProcess(
            runtime,
            directory,
            ENVIRON,
            kept_dir=directory / "kept",
            points=True,
            allow_pickle=allow_pickle,
            identity=identity,
        )
        self.points: list[bytes] = []
        self._done: list[Ended] = []
        self._jobs = 0

    def call(self, function: str, *args, **kwargs):
        """Run a job; its header and body."""
        self.start(function, json.dumps([function, None, args or [{}], kwargs]).encode())
        return self.done()

    def start(self, function: str, data: bytes | None = None, ensemble="e-1"):
        self._jobs += 1
        data = data or json.dumps([function, None, [{}], {}]).encode()
        claim = Claim(f"e-1-{self._jobs}", "w.1", 1, 0, ensemble, self._jobs, "", 1e9, data)
        self.process.send(claim)

    def done(self):
        wait_until(lambda: self._read() or self.process.hung_up, 20, "the job to end")
        if not self._done:
            return None
        ended = self._done.pop(0)
        return ended._asdict(), ended.body

    def _read(self):
        for reply in self.process.listen():
            if isinstance(reply, Ended):
                self._done.append(reply)
            elif isinstance(reply, (Points, Summary)):
                self.points.append(reply[0])
        return self._done


@pytest.fixture
def payload_dir(tmp_path):
    return payload.write(tmp_path / "payload")


@pytest.fixture
def start(tmp_path, payload_dir):
    started: list[Running] = []

    def start(**settings) -> Running:
        started.append(Running(tmp_path / f"slot-{len(started)}", payload_dir, **settings))
        return started[-1]

    yield start
    for running in started:
        if running.process.control.fileno() >= 0:
            running.process.close()


def test_one_executor_runs_job_after_job(start):
    running = start()

    values = [json.loads(running.call("worker.add", {"a": 1, "b": i})[1]) for i in range(3)]

    assert [value["sum"] for value in values] == [1, 2, 3]
    assert [value["calls"] for value in values] == [1, 2, 3]
    assert len({value["pid"] for value in values}) == 1


def test_with_isolation_fork_each_job_has_a_process_but_the_import_is_shared(start):
    running = start(isolation="fork")

    values = [json.loads(running.call("worker.add", {"a": 1, "b": i})[1]) for i in range(3)]

    assert [value["calls"] for value in values] == [1, 1, 1]
    assert len({value["pid"] for value in values}) == 3


@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_each_job_has_a_fresh_scratch_directory_that_goes_away(start, isolation):
    running = start(isolation=isolation)

    first, second = (json.loads(running.call("worker.place", {})[1]) for _ in range(2))

    assert first["found"] == second["found"] == ["temp.inp"]
    assert first["cwd"] != second["cwd"]
    assert first["temp"] == first["cwd"]
    wait_until(lambda: not Path(first["cwd"]).exists(), what="its end")


def test_what_a_failed_job_leaves_in_its_scratch_directory_is_kept_when_asked(start, tmp_path):
    running = start(keep_failed_scratch=True)

    header, _ = running.call("worker.leave_a_file", {})

    kept = tmp_path / "slot-0" / "kept" / "e-1-1-1"
    assert (kept / "left.txt").read_text() == "left"
    assert str(kept) in header["traceback"]


def test_a_failure_carries_the_users_traceback_and_all_output(start):
    running = start()
    running.call("worker.say", {"n": 1})

    header, output = running.call("worker.say", {"n": 2})

    assert header["error"] == "ValueError: after 2"
    assert str(Path(inside.START).parent) not in header["traceback"]
    assert 'raise ValueError("after %s"' in header["traceback"]
    for text in (b"to stdout", b"to stderr", b"from a child", b"to the log"):
        assert output.count(text) == 1


def test_failures_at_the_same_place_share_a_fingerprint_and_others_do_not(start):
    running = start()

    first = running.call("worker.say", {"n": 1})[0]
    second = running.call("worker.say", {"n": 2})[0]
    other = running.call("worker.deep", {"zero": 0})[0]

    assert first["fingerprint"] == second["fingerprint"] != other["fingerprint"]
    assert other["error"] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("worker.exit", "sys.exit(3)"),
        ("worker.not_json", "not JSON (object found in it at a)"),
        ("worker.relative", "open Path(__file__).parent / 'data.txt'"),
        ("worker.missing", "has no function 'missing'; it has: "),
        ("worker.not_callable", "not a function but a int"),
        ("nowhere.work", "no module 'nowhere'"),
        ("os.system", "'os' is not a module of the payload"),
        ("work", "names no module"),
    ],
)
def test_what_goes_wrong_is_said_and_the_executor_lives_on(start, function, expected):
    running = start()

    header, _ = running.call(function, {})

    assert header["state"] == "failed"
    assert expected in header["error"]
    assert running.call("worker.add", {"a": 1, "b": 2})[0]["state"] == "finished"


def test_a_module_that_does_not_import_is_broken_and_a_missing_package_is_named(tmp_path, start, payload_dir):
    (payload_dir / "needy.py").write_text("import six_of_one\n")
    (payload_dir / "wrong.py").write_text("1 / 0\n")
    running = start()

    needy, _ = running.call("needy.work", {})
    wrong, _ = running.call("wrong.work", {})

    assert needy["broken"]
    assert wrong["broken"]
    assert "No module named 'six_of_one': needy.py imports it: add the package" in needy["error"]
    assert not running.call("worker.say", {"n": 1})[0]["broken"]


def test_a_package_that_needs_another_without_saying_so_is_named(tmp_path, start, payload_dir):
    """As wntr 1.5.0 needs six."""
    (tmp_path / "index").mkdir()
    site = tmp_path / "lib" / "site-packages"
    with zipfile.ZipFile(make_wheel(tmp_path / "index", "levee", "1.0", code="import six_of_one\n")) as wheel:
        wheel.extractall(site)
    (payload_dir / "user.py").write_text(f"import sys\nsys.path.append({str(site)!r})\nimport levee\n")

    header, _ = start().call("user.work", {})

    assert header["broken"]
    assert header["error"] == (
        "ModuleNotFoundError: No module named 'six_of_one': levee needs six_of_one without saying so: "
        'add the package that brings it to the Pipfile, such as six_of_one = "*"'
    )


def test_a_module_that_another_version_has_is_no_missing_package(start, payload_dir):
    (payload_dir / "newer.py").write_text("import json\nimport json.schema\n")

    header, _ = start().call("newer.work", {})

    assert "the json that is installed has none; see its version in the Pipfile.lock" in header["error"]


def test_a_system_library_that_is_missing_is_one_for_apt(start, payload_dir):
    (payload_dir / "native.py").write_text(
        "raise ImportError('libgeos_c.so.1: cannot open shared object file: No such file or directory')\n"
    )

    header, _ = start().call("native.work", {})

    assert "the node lacks a system library: name its package in cloudburst.toml, apt = [" in header["error"]


def test_a_large_value_is_refused_and_numpy_values_are_numbers(start):
    running = start()

    assert "more than 65,536 bytes" in running.call("worker.large", {"bytes": 70_000})[0]["error"]
    assert json.loads(running.call("worker.numpy_like", {})[1]) == {"x": 4.5}


def test_both_ends_of_much_output_are_kept(start):
    header, output = start().call("worker.print_much", {"mb": 3, "fail": True})

    assert header["error"] == "RuntimeError: done printing"
    assert 60 * 1024 < len(output) <= 64 * 1024
    assert output.startswith(b"x" * 99)
    assert output.endswith(b"the end\n")
    left_out = int(re.search(rb"\n... (\d+) bytes left out ...\n", output).group(1))
    assert left_out + len(output) == pytest.approx(3_000_008, abs=100)


def test_pickled_jobs_run_only_where_they_are_allowed(start):
    data = pickle.dumps(("worker.echo", None, (1,), {"b": 2}))
    allowed, refused = start(), start(allow_pickle=False)

    allowed.start("", data)
    refused.start("", data)

    assert json.loads(allowed.done()[1]) == [[1], {"b": 2}]
    assert "does not run pickled jobs" in refused.done()[0]["error"]


def test_points_come_before_the_end_of_their_job_also_of_a_failed_one(start):
    running = start()

    running.call("worker.points", {"n": 2})
    lines = b"".join(running.points).decode().splitlines()
    running.points.clear()
    running.call("worker.points", {"n": 1, "fail": True})

    series = sorted(line.split(" ")[0] for line in lines)
    assert series == ["level,tank=1", "level,tank=1", "result,ensemble=e-1"]
    (result,) = [line for line in lines if line.startswith("result")]
    assert result.endswith(f" {1_000_000_000 * 10**9 + 1000}")
    assert b"".join(running.points).count(b"level") == 1


def test_a_returned_name_or_number_that_influxdb_does_not_take_is_no_failure(start):
    running = start()

    header, _ = running.call("worker.odd_names", {})

    assert header["state"] == "finished"
    (line_,) = b"".join(running.points).decode().splitlines()
    assert line_.startswith("result,ensemble=e-1 index=1i,fine=1")


@pytest.mark.parametrize("isolation", ["reuse", "fork"])
@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("worker.crash", "SIGSEGV"),
        ("worker.crash_beside_a_child", "SIGSEGV"),
    ],
)
def test_a_crash_ends_the_executor_and_its_last_words_remain(start, function, words, isolation):
    running = start(isolation=isolation)

    running.call("worker.add", {"a": 1, "b": 2})
    assert running.call(function, {}) is None

    assert b"last words" in running.process.output_tail()
    assert words in ending(running.process.kill(), for_memory=False)


@pytest.mark.parametrize("function", ["worker.hard_exit", "worker.exit_without_a_word"])
def test_an_exit_ends_the_executor_but_a_forks_is_a_failure_of_its_job(start, function):
    reuse, fork = start(), start(isolation="fork")

    assert reuse.call(function, {}) is None
    header, output = fork.call(function, {})

    assert "exited with status" in header["error"]
    assert output == reuse.process.output_tail() == b"last words\n"
    assert fork.call("worker.add", {"a": 1, "b": 2})[0]["state"] == "finished"


@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_a_hanging_job_writes_where_it_hangs(start, isolation):
    running = start(isolation=isolation)
    running.start("worker.hang")
    wait_until(lambda: b"hanging" in running.process.output_tail(), what="the job to start")

    running.process.dump_stack()

    wait_until(lambda: b"in hang" in running.process.output_tail(), what="the stack")


def test_the_executor_sees_no_worker_code_and_no_worker_directory(start):
    header, body = start().call("worker.environment", {})

    assert header["state"] == "finished"
    assert json.loads(body)["CLOUDBURST_INDEX"] == "1"


def test_executors_die_with_their_worker(tmp_path, payload_dir):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom tests.worker.test_executor import Running\n"
        f"r = Running(Path({str(tmp_path / 'slot')!r}), Path({str(payload_dir)!r}))\n"
        "r.start('worker.hang')\nprint(r.process.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    wait_until(lambda: b"hanging" in (tmp_path / "slot" / "output").read_bytes(), what="the job to start")

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    wait_until(lambda: not child.is_running() or child.status() == "zombie", 2, "the executor to die")


def test_the_executor_runs_on_every_python_of_this_machine(start):
    pythons = [found.path for found in interpreters.installed(os.environ)]

    sums = [
        json.loads(start(python=python).call("worker.add", {"a": 1, "b": 2})[1])["sum"] for python in pythons
    ]

    assert sums == [3] * len(pythons) != []


INSIDE = sorted(Path(inside.START).parent.rglob("*.py"))


@pytest.mark.parametrize("file", [*INSIDE, Path(line.__file__)], ids=lambda file: file.stem)
def test_what_runs_in_the_payloads_interpreter_has_the_syntax_of_python_3_8(file):
    ast.parse(file.read_text(), feature_version=(3, 8))
