"""However a job, its executor or its worker ends: what the job has started ends too."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.wait import wait_until
from tests.worker import payload
from tests.worker.conftest import MiniStack

MODULE = '''
import os, signal, subprocess, sys, time

SLEEP = [sys.executable, "-c", "import time; time.sleep(6666)"]


def start(job):
    """Processes of all kinds, whose ids are then in the file."""
    pids = [
        subprocess.Popen(SLEEP).pid,
        subprocess.Popen(SLEEP, start_new_session=True).pid,
        subprocess.Popen("timeout 7777 sleep 6666", shell=True).pid,
    ]
    told = subprocess.Popen(
        "env -i setsid sh -c 'echo $$; exec sleep 6666' &", shell=True, stdout=subprocess.PIPE
    )
    pids.append(int(told.stdout.readline()))
    with open(job["told"] + ".new", "w") as file:
        file.write(" ".join(map(str, [os.getpid(), *pids])))
    os.rename(job["told"] + ".new", job["told"])


def hang(job):
    start(job)
    time.sleep(6666)


def eat(job):
    start(job)
    eaten = []
    while True:
        eaten.append(b"x" * 10_000_000)
        time.sleep(0.01)


def crash(job):
    start(job)
    os._exit(3) if job["how"] == "exit" else os.kill(os.getpid(), signal.SIGKILL)


def work(job):
    return 1
'''

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who descends from whom")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    stack = MiniStack(tmp_path_factory.mktemp("stack"))
    for isolation in ("reuse", "fork"):
        directory = payload.write(stack.directory / isolation, {"starts.py": MODULE})
        (directory / "cloudburst.toml").write_text(f'isolation = "{isolation}"\nmax_rss_mb = 200\n')
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def worker(stack):
    worker = stack.worker()
    yield worker
    worker.kill()
    worker.wait()


@pytest.fixture(params=["reuse", "fork"])
def submit(request, stack, tmp_path):
    """Start a job; its ensemble, and what it has started, once it has."""

    submitted = []

    def submit(function: str, **spec):
        told = tmp_path / "told"
        digest = stack.upload(stack.directory / request.param)
        job = {"told": str(told), "how": spec.pop("how", "")}
        ensemble = stack.submit(f"starts.{function}", job, digest=digest, **spec)
        submitted.append(ensemble)
        wait_until(told.exists, 60, "the job to start processes")
        return ensemble, [int(pid) for pid in told.read_text().split()]

    yield submit
    for ensemble in submitted:  # else the next worker runs its jobs, which nobody has ended
        stack.ensembles.cancel(ensemble)


def _alive(pids) -> list[int]:
    def alive(pid):
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [pid for pid in pids if alive(pid)]


def _all_end(pids) -> None:
    wait_until(lambda: not _alive(pids), 20, f"{_alive(pids)} of {pids} to end")


def _guard(worker) -> psutil.Process:
    """The child of the worker that is no executor."""
    children = psutil.Process(worker.pid).children()
    return next(child for child in children if child.cmdline()[-1].endswith("__main__.py"))


def test_when_its_time_is_up(stack, worker, submit):
    ensemble, pids = submit("hang", timeout_s=3)

    _all_end(pids)
    assert stack.wait(ensemble)[0].state == "failed"


def test_when_its_memory_is_up(stack, worker, submit):
    ensemble, pids = submit("eat")

    _all_end(pids)
    assert "MiB" in stack.wait(ensemble)[0].error


def test_when_it_is_cancelled(stack, worker, submit):
    ensemble, pids = submit("hang")

    stack.ensembles.cancel(ensemble)

    _all_end(pids)


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_when_its_executor_crashes(stack, worker, submit, how):
    _, pids = submit("crash", how=how)

    _all_end(pids)
    assert worker.poll() is None


def test_when_the_worker_stops(worker, submit):
    _, pids = submit("hang")

    def stopped() -> bool:
        worker.send_signal(signal.SIGTERM)  # the second one means at once
        return worker.poll() is not None

    wait_until(stopped, 20, "the worker's end")
    _all_end(pids)


def test_when_the_worker_is_killed_and_its_guard_ends_too(worker, submit):
    _, pids = submit("hang")
    guard = _guard(worker)

    worker.kill()
    worker.wait()

    _all_end([*pids, guard.pid])


def test_when_the_worker_is_killed_and_its_guard_was_before(stack, worker, submit):
    _, pids = submit("hang")
    guard = _guard(worker)
    guard.kill()
    wait_until(lambda: not _alive([guard.pid]), what="the guard's end")
    worker.kill()
    worker.wait()
    _all_end(pids[:2])  # the kernel sees to those
    marked = [
        pid for pid in _alive(pids) if b"CLOUDBURST_EXECUTOR=" in Path(f"/proc/{pid}/environ").read_bytes()
    ]
    assert marked

    stack.worker().kill()

    _all_end(marked)
    for pid in _alive(pids):
        os.kill(pid, signal.SIGKILL)


def test_a_guard_that_has_died_is_replaced(stack, worker, submit):
    guard = _guard(worker)
    guard.kill()
    wait_until(lambda: not _alive([guard.pid]), what="the guard's end")

    _, pids = submit("hang")
    worker.kill()
    worker.wait()

    _all_end(pids)


def test_an_idle_worker_stops_with_its_guard(stack):
    worker = stack.worker()
    guard = _guard(worker)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(20) == 0
    _all_end([guard.pid])


def test_a_worker_that_has_run_jobs_has_no_dead_children(stack, worker):
    digest = stack.upload(stack.directory / "reuse")
    stack.run("starts.work", {}, {}, digest=digest)

    children = psutil.Process(worker.pid).children()

    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == []
