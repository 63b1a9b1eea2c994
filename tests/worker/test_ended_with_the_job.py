"""Processes that a job has started end with it, whatever their session and whoever started them for it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.wait import wait_until
from tests.worker.test_executor import Running

MODULE = '''
import concurrent.futures
import functools
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time

SLEEP = [sys.executable, "-c", "import time; time.sleep(6666)"]


def pid(job):
    return os.getpid()


def popen(job):
    return [subprocess.Popen(SLEEP).pid]


def own_session(job):
    return [subprocess.Popen(SLEEP, start_new_session=True).pid]


def shell(job):
    return [subprocess.Popen("timeout 7777 sleep 6666", shell=True).pid]


def told(command):
    """The process id that a command prints which leaves something behind."""
    with open("told", "w") as file:
        subprocess.run(command, shell=True, stdout=file, check=True)
    while not os.path.getsize("told"):
        time.sleep(0.01)
    with open("told") as file:
        return [int(file.read())]


def setsid(job):
    return told("setsid sh -c 'echo $$; exec sleep 6666' &")


def nohup(job):
    return told("nohup sh -c 'echo $$; exec sleep 6666' 2>/dev/null &")


def without_environment(job):
    return told("env -i setsid sh -c 'echo $$; exec sleep 6666' &")


def double_fork(job):
    first = os.fork()
    if first == 0:
        os.setsid()
        if os.fork() == 0:
            with open("pid", "w") as file:
                file.write(str(os.getpid()))
            os.rename("pid", "done")
            os.execv(SLEEP[0], SLEEP)
        os._exit(0)
    os.waitpid(first, 0)
    while not os.path.exists("done"):
        time.sleep(0.01)
    with open("done") as file:
        return [int(file.read())]


def ignores_sigterm(job):
    stubborn = ["sh", "-c", "trap '' TERM HUP; echo; while :; do sleep 1; done"]
    process = subprocess.Popen(stubborn, stdout=subprocess.PIPE)
    process.stdout.readline()
    return [process.pid]


def raises(job):
    process = subprocess.Popen(SLEEP)
    raise ValueError("pid %d" % process.pid)


def children():
    return [process.pid for process in multiprocessing.active_children()]


def where(_):
    return os.environ["CLOUDBURST_INDEX"], os.getcwd()


def _pool(job):
    """A pool that is not closed; what its processes think where they are."""
    pool = multiprocessing.get_context(job["start"]).Pool(2)
    found = pool.map(where, [0, 1])
    return {"pids": children(), "right": all(place == list(where(0)) or place == where(0) for place in found)}


def pool(job):
    return _pool(job)


def pool_closed(job):
    with multiprocessing.get_context(job["start"]).Pool(2) as pool:
        found = pool.map(where, [0, 1])
    return {"pids": children(), "right": all(place == where(0) for place in found)}


def manager(job):
    manager = multiprocessing.Manager()
    shared = manager.list([1, 2])
    return {"pids": children(), "right": list(shared) == [1, 2]}


def executor(job):
    pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(job["start"]))
    found = list(pool.map(where, [0, 1]))
    return {"pids": list(pool._processes), "right": all(place == where(0) for place in found)}


def shared_memory(job):
    from multiprocessing import resource_tracker, shared_memory

    block = shared_memory.SharedMemory(create=True, size=1000)
    return {"pids": [resource_tracker._resource_tracker._pid], "right": True, "name": block.name}


def start_method(job):
    multiprocessing.set_start_method("spawn")
    return multiprocessing.get_start_method()


@functools.lru_cache(maxsize=None)
def kept_pool(kind):
    return multiprocessing.Pool(2) if kind == "pool" else concurrent.futures.ProcessPoolExecutor(2)


def from_kept_pool(job):
    return {"right": all(place == where(0) for place in kept_pool(job["kind"]).map(where, [0, 1]))}


def joblib_job(job):
    import joblib

    found = joblib.Parallel(n_jobs=2)(joblib.delayed(where)(i) for i in range(2))
    return {"right": all(place == where(0) for place in found), "pids": []}
'''

WITH_A_POOL = """
import concurrent.futures, multiprocessing, subprocess, tempfile, os

POOL = multiprocessing.Pool(1)
HELPER = subprocess.Popen(["sleep", "6666"])
SERVER = multiprocessing.get_context("forkserver")
with SERVER.Pool(1):
    pass
DIRECTORY = tempfile.mkdtemp()


def work(job):
    subprocess.Popen(["sleep", "6666"])
    return {"sum": POOL.apply(sum, [[1, 2]]), "helper": HELPER.poll(), **in_fork(job)}


def in_fork(job):
    with SERVER.Pool(1) as pool:
        return {"server": pool.map(abs, [-1]), "directory": os.path.isdir(DIRECTORY)}
"""

ISOLATIONS = pytest.mark.parametrize("isolation", ["reuse", "fork"])
STARTS = pytest.mark.parametrize("start_by", ["fork", "spawn", "forkserver"])

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who descends from whom")


@pytest.fixture
def start():
    # The sockets of multiprocessing lie in the jobs' directories, and their names have at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="cb") as directory:
        yield from _started(Path(directory))


def _started(directory: Path):
    payload = directory / "payload"
    payload.mkdir()
    (payload / "leaves.py").write_text(MODULE)
    (payload / "pooled.py").write_text(WITH_A_POOL)
    started: list[Running] = []

    def start(**settings) -> Running:
        started.append(Running(directory / f"slot-{len(started)}", payload, **settings))
        return started[-1]

    yield start
    for running in started:
        running.process.close()


def _value(answer):
    header, body = answer
    assert header["state"] == "finished", header
    return json.loads(body)


def _alive(pids) -> list[int]:
    def alive(pid):
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [pid for pid in pids if alive(pid)]


def _left(running) -> list[int]:
    """Descendants of the executor; a fork whose job has ended may still be on its way out."""
    return _alive(
        process.pid for process in psutil.Process(running.process.process.pid).children(recursive=True)
    )


@ISOLATIONS
@pytest.mark.parametrize(
    "how",
    [
        "popen",
        "own_session",
        "shell",
        "setsid",
        "nohup",
        "without_environment",
        "double_fork",
        "ignores_sigterm",
    ],
)
def test_a_process_that_is_left_has_ended_when_the_job_has(start, isolation, how):
    running = start(isolation=isolation)

    pids = _value(running.call(f"leaves.{how}", {}))

    assert _alive(pids) == []
    wait_until(lambda: not _left(running), what="nothing to be left but the executor")
    assert _value(running.call("leaves.pid", {}))


def test_what_a_job_has_started_that_fails_has_ended_too(start):
    running = start()

    header, _ = running.call("leaves.raises", {})

    assert _alive([int(header["error"].rpartition(" ")[2])]) == []


@ISOLATIONS
@STARTS
@pytest.mark.parametrize("how", ["pool", "pool_closed", "executor"])
def test_each_job_has_a_pool_of_its_own(start, isolation, start_by, how):
    running = start(isolation=isolation)

    for _ in range(3):
        header, body = running.call(f"leaves.{how}", {"start": start_by})
        value = json.loads(body)

        assert header["state"] == "finished", header
        assert header.get("renew", "") == ""
        assert value["right"]
        assert _alive(value["pids"]) == []
        wait_until(lambda: not _left(running), what="nothing to be left but the executor")


@ISOLATIONS
def test_managers_and_trackers_end_with_the_job(start, isolation):
    running = start(isolation=isolation)

    for _ in range(2):
        assert _alive(_value(running.call("leaves.manager", {}))["pids"]) == []
        value = _value(running.call("leaves.shared_memory", {}))
        assert _alive(value["pids"]) == []
        assert not Path("/dev/shm", value["name"].strip("/")).exists()


def test_the_start_method_can_be_chosen_by_each_job(start):
    running = start()

    assert [_value(running.call("leaves.start_method", {})) for _ in range(2)] == ["spawn", "spawn"]


@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_a_pool_that_a_job_keeps_for_the_next_costs_the_executor(start, kind):
    running = start()

    header, body = running.call("leaves.from_kept_pool", {"kind": kind})

    assert json.loads(body)["right"]
    assert "pool of processes" in header["renew"]


def test_what_a_module_starts_while_it_is_imported_stays(start):
    running = start()

    for _ in range(3):
        value = _value(running.call("pooled.work", {}))
        assert value == {"sum": 3, "helper": None, "server": [1], "directory": True}


def test_forks_get_on_with_what_a_module_has_started(start):
    running = start(isolation="fork")

    for _ in range(3):
        assert _value(running.call("pooled.in_fork", {})) == {"server": [1], "directory": True}


@ISOLATIONS
def test_workers_of_joblib_end_with_the_job(start, isolation):
    pytest.importorskip("joblib")
    running = start(isolation=isolation)

    for _ in range(3):
        header, body = running.call("leaves.joblib_job", {})
        assert header["state"] == "finished", header
        assert json.loads(body)["right"]
        wait_until(lambda: not _left(running), what="nothing to be left but the executor")
