"""Workers that are killed, stopped and paused, and a Redis that goes away."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pytest

from cloudburst.rqwire.workers import workers
from tests.wait import wait_until


@pytest.fixture(scope="module")
def stack(stack):
    process = stack.worker(state="warm-up")  # builds the environment that all others share
    stack.run("worker.add", {"a": 1, "b": 1})
    process.terminate()
    process.wait(20)
    return stack


@pytest.fixture
def worker(stack, tmp_path):
    """Starts workers that have the environment already, and ends them with the test."""
    started = []

    def start(name: str, **settings):
        state = stack.directory / f"{tmp_path.name}-{name}"
        if not state.exists():
            state.mkdir()
            (state / "environments").symlink_to(stack.directory / "warm-up" / "environments")
        started.append(stack.worker(state=state.name, **settings))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


def marks(file: Path) -> list:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_killed_workers_job_runs_again_elsewhere_within_its_lease(stack, worker, tmp_path):
    first = worker("a")
    ensemble = stack.submit("worker.mark", {"file": str(tmp_path / "marks"), "s": 3})
    wait_until(lambda: marks(tmp_path / "marks"), what="the job to start")
    worker("b")

    first.kill()

    wait_until(lambda: len(marks(tmp_path / "marks")) == 2, 4 + 2, "the job to start again")
    (record,) = stack.wait(ensemble)
    assert (record.state, record.attempt, record.value) == ("finished", 2, "2")


def test_executors_are_gone_a_second_after_their_worker(stack, worker, tmp_path):
    process = worker("a")
    stack.submit("worker.mark", {"file": str(tmp_path / "marks"), "s": 60})
    ((pid, _),) = wait_until(lambda: marks(tmp_path / "marks"), what="the job to start")

    process.kill()

    wait_until(lambda: not alive(pid), 1.5, "the executor to die")
    stack.redis.flushall()


def test_a_worker_that_starts_in_the_place_of_a_dead_one_runs_its_job_at_once(stack, worker, tmp_path):
    process = worker("a", CLOUDBURST_LEASE_S="60")
    ensemble = stack.submit("worker.mark", {"file": str(tmp_path / "marks"), "s": 1})
    wait_until(lambda: marks(tmp_path / "marks"), what="the job to start")
    process.kill()
    process.wait()

    worker("a", CLOUDBURST_LEASE_S="60")

    (record,) = stack.wait(ensemble, 15)
    assert record.attempt == 2


def test_a_paused_worker_records_nothing_for_jobs_it_has_lost(stack, worker, tmp_path):
    paused = worker("a")
    ensemble = stack.submit("worker.mark", {"file": str(tmp_path / "marks"), "s": 1})
    wait_until(lambda: marks(tmp_path / "marks"), what="the job to start")
    paused.send_signal(signal.SIGSTOP)  # first: starting another may take longer than the job

    worker("b")
    (record,) = stack.wait(ensemble, 20)
    paused.send_signal(signal.SIGCONT)

    name = f"{tmp_path.name}-a"
    wait_until(lambda: "its lease" in stack.log(f"worker-{name}"), what="the paused worker to notice")
    assert record.node == f"{tmp_path.name}-b"
    assert len(list(stack.ensembles.all_records(ensemble))) == 1


def test_sigterm_lets_the_running_job_finish_and_returns_the_rest(stack, worker, tmp_path):
    process = worker("a")
    ensemble = stack.submit("worker.mark", *({"file": str(tmp_path / "marks"), "s": 1} for _ in range(3)))
    wait_until(lambda: marks(tmp_path / "marks"), what="a job to start")

    process.terminate()

    assert process.wait(10) == 0
    status = stack.ensembles.status(ensemble)
    assert (status.finished, status.running, status.waiting) == (1, 0, 2)
    assert all(tmp_path.name not in status.node for status in workers(stack.redis))
    stack.ensembles.cancel(ensemble)


def test_after_the_grace_period_the_running_job_goes_back_and_costs_no_attempt(stack, worker, tmp_path):
    process = worker("a", CLOUDBURST_GRACE_S="1")
    ensemble = stack.submit("worker.mark", {"file": str(tmp_path / "marks"), "s": 60})
    ((pid, _),) = wait_until(lambda: marks(tmp_path / "marks"), what="the job to start")

    process.terminate()

    assert process.wait(10) == 0
    assert not alive(pid)
    assert stack.ensembles.status(ensemble).waiting == 1
    assert stack.redis.hget(f"rq:job:{ensemble}-0", "cb_attempt") == b"0"
    stack.ensembles.cancel(ensemble)


def test_work_that_ends_while_redis_is_away_is_recorded_and_not_run_again(stack, worker, tmp_path):
    worker("a")
    ensemble = stack.submit("worker.mark", {"file": str(tmp_path / "marks"), "s": 1})
    wait_until(lambda: marks(tmp_path / "marks"), what="the job to start")

    stack.redis_server.kill()
    wait_until(lambda: "Redis does not" in stack.log(f"worker-{tmp_path.name}-a"), 20, "the worker to notice")
    stack.redis_server.start()

    (record,) = stack.wait(ensemble, 20)
    assert (record.state, record.attempt) == ("finished", 1)
    assert len(marks(tmp_path / "marks")) == 1


def test_two_workers_cannot_share_a_state_directory(stack, worker, tmp_path):
    worker("a")

    second = stack._process(
        "cloudburst.worker",
        {
            "REDIS_PORT": str(stack.redis_server.port),
            "CLOUDBURST_STATE_DIR": str(stack.directory / f"{tmp_path.name}-a"),
        },
        "second",
    )

    assert second.wait(20) == 2
    assert "another worker uses" in stack.log("second")
