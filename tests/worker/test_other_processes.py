"""Points from processes that a job starts, however it starts them: a real executor, real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.worker import test_executor
from tests.worker.test_executor import Running
from tests.worker.test_foreground import Run

payload_dir, start = test_executor.payload_dir, test_executor.start

MODULE = """
import multiprocessing, os, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from cloudburst import results

def write(number):
    results.write("level", {"v": number}, tags={"tank": "a b"}, time=10**18 + number)
    results.write("load", {"v": float(number)})
    return number

def pool(params):
    with multiprocessing.get_context(params["method"]).Pool(2) as pool:
        return pool.map(write, range(4))

def futures(params):
    context = multiprocessing.get_context(params["method"])
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        return list(pool.map(write, range(4)))

def program(params):
    for number in range(4):
        code = "import sys; sys.path.insert(0, %r); import pooled; pooled.write(%d)"
        code %= (os.path.dirname(__file__), number)
        subprocess.run([sys.executable, "-c", code], check=True)
    return list(range(4))

def forked(params):
    for number in range(4):
        child = os.fork()
        if child == 0:
            write(number)
            os._exit(0)
        os.waitpid(child, 0)
    return list(range(4))

def joblib_default(params):
    import joblib
    return joblib.Parallel(n_jobs=2)(joblib.delayed(write)(i) for i in range(4))

def wrong(params):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.map(write, ["text"])

def mixed(params):
    write(0)
    return pool({"method": "fork"})
"""


@pytest.fixture(params=["reuse", "fork"])
def running(request, payload_dir):
    (payload_dir / "pooled.py").write_text(MODULE)
    # The forkserver's socket lies in the job's directory, and its path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="cb-") as short:
        running = Running(Path(short, "0"), payload_dir, isolation=request.param)
        yield running
        running.process.close()


def written(running):
    lines = b"".join(running.points).decode().splitlines()
    return [line for line in lines if not line.startswith("result")]


@pytest.mark.parametrize(
    ("function", "method"),
    [
        *[("pool", method) for method in ("fork", "spawn", "forkserver")],
        *[("futures", method) for method in ("fork", "spawn", "forkserver")],
        ("program", ""),
        ("forked", ""),
        ("joblib_default", ""),
    ],
)
def test_points_of_other_processes_are_their_jobs(running, function, method):
    if function == "joblib_default":
        place = str(Path(pytest.importorskip("joblib").__file__).parent.parent)
        with open(running.process.runtime.payload_dir / "pooled.py", "a") as file:
            file.write(f"sys.path.append({place!r})\nos.environ['PYTHONPATH'] += ':' + {place!r}\n")
    for _ in range(2):
        running.points.clear()
        header, body = running.call("pooled." + function, {"method": method})

        assert (header["state"], body) == ("finished", b"[0,1,2,3]"), header
        lines = written(running)
        assert sorted(line for line in lines if line.startswith("level")) == [
            f"level,tank=a\\ b v={number}i {10**18 + number}" for number in range(4)
        ]
        assert sum(line.startswith("load") for line in lines) == 4
        assert header["series"] == {"level,tank=a\\ b": (10**18, 10**18 + 3)}


def test_a_job_and_its_processes_may_both_write(running):
    header, _ = running.call("pooled.mixed", {})

    assert len(written(running)) == 10
    assert header["series"] == {"level,tank=a\\ b": (10**18, 10**18 + 3)}


def test_what_is_wrong_is_told_where_it_is_written(running):
    header, _ = running.call("pooled.wrong", {})

    assert header["state"] == "failed"
    assert header["error"].startswith("TypeError")


def test_a_replay_counts_them_too(payload_dir):
    (payload_dir / "pooled.py").write_text(MODULE)

    assert Run(payload_dir, "pooled.pool", {"method": "spawn"}).answer["points"] == {"level": 4, "load": 4}


@pytest.mark.parametrize("name", ["cloudburst.py", "cloudburst/__init__.py"])
def test_a_payload_with_a_module_of_our_name_is_told_to_rename_it(payload_dir, start, name):
    (payload_dir / name).parent.mkdir(exist_ok=True)
    (payload_dir / name).write_text("def work(params): return 1\n")
    running = start()

    for function in ("worker.add", "cloudburst.work"):
        header, _ = running.call(function, {})
        assert header["broken"]
        assert "has a module called cloudburst" in header["error"]


def test_a_payload_may_have_modules_called_as_ours_are(payload_dir, start):
    for name in ("values", "output", "frames", "payload", "executor", "logs", "__main__", "inside"):
        (payload_dir / f"{name}.py").write_text("def work(params): return __name__\n")
    running = start()

    assert json.loads(running.call("values.work", {})[1]) == "values"
    assert json.loads(running.call("output.work", {})[1]) == "output"
    assert json.loads(running.call("executor.work", {})[1]) == "executor"
    assert "put them into a module of another name" in running.call("__main__.work", {})[0]["error"]


def test_outside_of_jobs_nothing_is_written(tmp_path):
    code = "from cloudburst import results; results.write('a', {'b': 1})"

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)

    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == (b"", b"", [])
