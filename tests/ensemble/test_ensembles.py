"""Ensembles through the Python API, against a real Redis, a real file store and a scripted worker."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from cloudburst import Stack
from cloudburst.ensemble import connection, submission
from cloudburst.ensemble.ensemble import Ensemble
from cloudburst.errors import ConfigError, EnsembleError, QueueError
from cloudburst.rqwire.ensembles import Ensembles
from tests.conftest import RedisServer, free_port
from tests.ensemble.parts import ScriptedWorker, endpoints
from tests.wait import wait_until


def seeds(count: int) -> Iterator[dict[str, int]]:
    return ({"seed": seed} for seed in range(count))


def submit(stack: Stack, jobs: Any, name: str = "floods", **options: Any) -> Ensemble:
    return stack.submit(name, function="worker.work", jobs=jobs, **options)


def odd_fails(params: dict[str, Any]) -> dict[str, Any]:
    if params["seed"] % 2:
        raise ValueError(f"seed {params['seed']} is odd")
    return {"double": 2 * params["seed"]}


def test_the_example_of_the_documentation_works_as_it_stands(stack, model):
    with ScriptedWorker(stack._queue.redis, lambda params: {"peak": params["seed"] ** 2}):
        floods = stack.submit(
            "floods", payload=model, function="worker.work", jobs=({"seed": s} for s in range(1_000))
        )
        seen = [record.index for record in floods.watch(timeout_s=60)]

    assert sorted(seen) == list(range(1_000))
    frame = floods.results().to_frame()
    assert frame["peak"].tolist() == [seed**2 for seed in range(1_000)]
    assert frame["seed"].tolist() == list(range(1_000))


def test_records_are_yielded_while_other_jobs_still_run(stack):
    release = threading.Event()

    def second_waits(params: dict[str, Any]) -> int:
        if params["seed"] == 1:
            assert release.wait(20)
        return 1

    with ScriptedWorker(stack._queue.redis, second_waits, batch=1):
        watching = submit(stack, seeds(2)).watch(timeout_s=20)
        assert next(watching).index == 0
        release.set()
        assert [record.index for record in watching] == [1]


def test_another_process_reattaches_by_name_and_sees_every_record(stack):
    floods = submit(stack, seeds(10))
    with ScriptedWorker(stack._queue.redis, odd_fails):
        floods.wait(timeout_s=20)

    again = Stack(stack.endpoints).ensemble("floods")

    assert again.id == floods.id
    assert sorted(record.index for record in again.watch()) == list(range(10))
    assert Stack(stack.endpoints).ensemble(floods.id).name == "floods"


def test_of_several_ensembles_with_one_name_the_latest_is_found(stack):
    first, second = submit(stack, seeds(1)), submit(stack, seeds(2))
    other = submit(stack, seeds(1), name="floods-2")

    assert stack.ensemble("floods").id == second.id
    assert [ensemble.id for ensemble in stack.ensembles()] == [other.id, second.id, first.id]
    with pytest.raises(EnsembleError, match="no ensemble 'storms' here"):
        stack.ensemble("storms")


def test_failures_are_grouped_and_retried_and_watch_sees_their_new_records(stack):
    floods = submit(stack, seeds(6))
    with ScriptedWorker(stack._queue.redis, odd_fails):
        status = floods.wait(timeout_s=20)
    assert (status.finished, status.failed) == (3, 3)
    (group,) = floods.failures()
    assert (group.fingerprint, group.count, group.output) == ("valueerror", 3, "printed before it failed\n")
    assert "is odd" in group.traceback

    assert floods.retry("something else") == 0
    watching = floods.watch(timeout_s=20)
    before = [next(watching) for _ in range(6)]
    assert floods.retry(group.fingerprint) == 3
    with ScriptedWorker(stack._queue.redis, lambda params: {"double": 0}):
        after = list(watching)

    assert sorted(record.index for record in before) == [0, 1, 2, 3, 4, 5]
    assert sorted(record.index for record in after) == [1, 3, 5]
    assert {record.state for record in after} == {"finished"}
    assert sorted(record.index for record in floods.watch()) == [0, 1, 2, 3, 4, 5]
    assert floods.failures() == []


def test_cancelled_jobs_have_their_record_and_can_be_run_after_all(stack):
    floods = submit(stack, seeds(3))

    assert floods.cancel() == 3

    assert [record.state for record in floods.watch(timeout_s=5)] == ["cancelled"] * 3
    assert floods.retry() == 0
    assert floods.retry(cancelled=True) == 3
    with ScriptedWorker(stack._queue.redis, lambda params: 1):
        assert floods.wait(timeout_s=20).finished == 3


def test_watch_and_wait_raise_what_keeps_every_job_from_running_after_the_records(stack):
    floods = submit(stack, seeds(2))
    Ensembles(stack._queue.redis).fail(floods.id, "the environment cannot be built\nno such package: nympy")

    watching = floods.watch()
    assert [next(watching).state for _ in range(2)] == ["failed", "failed"]
    with pytest.raises(
        EnsembleError, match=r"no job of it can run: the environment.*\nno such package: nympy"
    ):
        next(watching)
    with pytest.raises(EnsembleError, match="no such package"):
        floods.wait()


def test_watch_and_wait_say_how_many_jobs_are_left_when_time_is_up(stack):
    floods = submit(stack, seeds(2))

    with pytest.raises(EnsembleError, match=r"2 jobs are left after 0\.1 s; they go on"):
        list(floods.watch(timeout_s=0.1))
    with pytest.raises(EnsembleError, match=r"2 jobs are left after 0\.1 s; they go on"):
        floods.wait(timeout_s=0.1)


class Counted(dict):
    """A job description that knows how many of its kind there are."""

    alive = most = 0

    def __init__(self, **items: Any) -> None:
        super().__init__(items)
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1


def test_of_a_hundred_thousand_jobs_only_a_chunk_is_ever_in_memory(stack):
    unsent: list[int] = []

    def jobs() -> Iterator[dict[str, Any]]:
        for seed in range(100_000):
            if seed % 5_000 == 4_999:
                unsent.append(seed - stack.queue_depth())
            yield Counted(seed=seed, spread=0.3)

    floods = submit(stack, jobs())

    assert floods.status().total == stack.queue_depth() == 100_000
    assert max(unsent) < (1 + submission.IN_FLIGHT) * submission.CHUNK_JOBS
    assert Counted.most <= 2


def test_large_descriptions_go_in_smaller_chunks():
    large = {"text": "x" * 400_000}

    chunks = list(submission.encoded_chunks([large, large, large, {"seed": 1}]))

    assert [len(chunk) for chunk in chunks] == [2, 2]


def test_jobs_that_come_slowly_start_before_the_last_is_known(stack):
    known = threading.Event()

    def slowly() -> Iterator[dict[str, int]]:
        yield {"seed": 0}
        assert not known.wait(submission.CHUNK_S + 0.1)
        yield {"seed": 1}
        wait_until(lambda: stack.queue_depth() == 1, 5, "the first job to be queued")
        yield {"seed": 2}

    assert submit(stack, slowly()).status().total == 3


def test_numpy_values_are_welcome_in_descriptions(stack):
    floods = submit(stack, [{"seed": np.int64(3), "at": np.array([0.5, 1.5])}])
    with ScriptedWorker(stack._queue.redis, lambda params: params):
        (record,) = floods.watch(timeout_s=20)

    assert record.value == {"seed": 3, "at": [0.5, 1.5]}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1, 2], "a job description is a JSON object .a dict., got list"),
        ({"x": {1, 2}}, "set cannot be written as JSON"),
        ({"x": "y" * 600_000}, "put large inputs into the file store"),
    ],
)
def test_a_bad_description_is_named_and_what_was_accepted_is_cancelled(stack, bad, message):
    def jobs() -> Iterator[Any]:
        yield from seeds(1_200)
        yield bad

    with pytest.raises(EnsembleError, match=rf"(?s)job 1200: .*{message}.*\n1,000 jobs had been accepted"):
        submit(stack, jobs())

    status = stack.ensemble("floods").status()
    assert (status.state, status.total, status.cancelled) == ("cancelled", 1_000, 1_000)
    assert stack.queue_depth() == 0


def test_a_bad_description_at_the_start_makes_no_ensemble(stack):
    with pytest.raises(EnsembleError, match="job 0"):
        submit(stack, ["seed"])
    with pytest.raises(EnsembleError, match="no job descriptions"):
        submit(stack, [])

    assert stack.ensembles() == []


def test_an_error_of_the_iterator_comes_through_with_a_note(stack):
    def jobs() -> Iterator[dict[str, int]]:
        yield from seeds(600)
        raise ZeroDivisionError("in the user's code")

    with pytest.raises(ZeroDivisionError) as caught:
        submit(stack, jobs())

    (note,) = caught.value.__notes__
    assert note.startswith("500 jobs had been accepted into floods-")
    assert stack.ensemble("floods").status().state == "cancelled"


def test_an_ensemble_that_fails_while_it_is_submitted_says_why(stack):
    def jobs() -> Iterator[dict[str, int]]:
        yield from seeds(501)
        Ensembles(stack._queue.redis).fail(stack.ensemble("floods").id, "no module named worker")
        yield from seeds(1_000)

    with pytest.raises(EnsembleError, match=r"no job of it can run: no module named worker\n500 jobs had"):
        submit(stack, jobs())


def test_submission_and_watch_survive_a_redis_that_restarts(stack, redis_server: RedisServer, caplog):
    def jobs() -> Iterator[dict[str, int]]:
        for job in seeds(3_000):
            if job["seed"] in {1_000, 2_000}:
                redis_server.kill()
                threading.Timer(0.5, redis_server.start).start()
            yield job

    floods = submit(stack, jobs())
    assert floods.status().total == 3_000
    assert stack.queue_depth() == 3_000

    with (
        caplog.at_level(logging.WARNING),
        ScriptedWorker(redis.Redis(port=redis_server.port), lambda params: params["seed"], lease_s=1),
    ):
        watching = floods.watch(timeout_s=60)
        indices = [next(watching).index for _ in range(10)]
        redis_server.kill()
        threading.Timer(0.5, redis_server.start).start()
        indices += [record.index for record in watching]

    assert sorted(indices) == list(range(3_000))
    assert "does not answer; trying again" in caplog.text


def test_a_redis_that_stays_away_leaves_an_ensemble_that_never_looks_complete(
    stack, redis_server: RedisServer, monkeypatch
):
    monkeypatch.setattr(stack._queue, "_patience_s", 0.3)

    def jobs() -> Iterator[dict[str, int]]:
        for job in seeds(2_000):
            if job["seed"] == 1_000:
                redis_server.kill()
            yield job

    with pytest.raises(
        QueueError, match=r"(?s)does not answer.*500 jobs had been accepted .*; it stays incomplete"
    ):
        submit(stack, jobs())

    redis_server.start()
    status = stack.ensemble("floods").status()
    assert (status.state, status.complete) == ("submitting", False)
    with ScriptedWorker(stack._queue.redis, lambda params: 1):
        wait_until(lambda: stack.ensemble("floods").status().finished == status.total, 10, "all to finish")
    assert not stack.ensemble("floods").status().complete


def test_a_refused_password_is_not_tried_again(redis_server: RedisServer, caplog):
    queue = connection.Connection(redis_server.url)
    admin = redis_server.client()
    admin.config_set("requirepass", "secret")
    admin.client_kill_filter(_type="normal", skipme=True)

    with pytest.raises(QueueError, match="refuses the user name or password"):
        queue.patiently(queue.redis.ping)

    assert "trying again" not in caplog.text


def test_without_a_stack_the_error_says_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDBURST_HOME", str(tmp_path))
    monkeypatch.delenv("CLOUDBURST_STACK", raising=False)

    with pytest.raises(ConfigError, match=r"no stack 'local' is known here.*buildstack.sh --local"):
        Stack.connect()


def test_a_stack_that_does_not_run_is_said_to_at_once(tmp_path, monkeypatch, redis_server: RedisServer):
    monkeypatch.setenv("CLOUDBURST_HOME", str(tmp_path))
    folder = tmp_path / "field"
    folder.mkdir()
    running = endpoints(redis_server, "http://127.0.0.1:1")
    (folder / "endpoints.json").write_text(running.to_json())
    monkeypatch.setenv("CLOUDBURST_STACK", "field")
    assert Stack.connect().endpoints == running

    redis_server.port = free_port()
    (folder / "endpoints.json").write_text(
        running.to_json().replace(running.redis_url, f"redis://127.0.0.1:{redis_server.port}/0")
    )
    with pytest.raises(QueueError, match="does not answer"):
        Stack.connect("field")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a b"}, "use up to 80 letters"),
        ({"name": "-x"}, "not '-' first"),
        ({"name": "--help"}, "not '-' first"),
        ({"name": "a/../b"}, "use up to 80 letters"),
        ({"function": "work"}, "give module and function"),
        ({"timeout_s": 0}, "more than 0 seconds"),
        ({"retries": -1}, "should not be negative"),
        ({"max_attempts": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(stack, options, message):
    with pytest.raises(EnsembleError, match=message):
        stack.submit(**({"name": "floods", "function": "worker.work", "jobs": seeds(1)} | options))


def test_options_reach_the_queue(stack):
    floods = submit(stack, seeds(1), timeout_s=90.5, retries=2, max_attempts=5)

    fields = stack._queue.redis.hgetall(f"cb:ens:{floods.id}")
    assert (fields[b"timeout"], fields[b"retries"], fields[b"max_attempts"]) == (b"91", b"2", b"5")


def test_importing_cloudburst_takes_less_than_a_tenth_of_a_second():
    script = "import time; t = time.perf_counter(); import cloudburst; print(time.perf_counter() - t)"

    times = [float(subprocess.check_output([sys.executable, "-c", script])) for _ in range(3)]

    assert min(times) < 0.1


def test_public_names_are_there_and_others_are_not():
    script = (
        "import cloudburst; [getattr(cloudburst, name) for name in cloudburst.__all__]\n"
        "from cloudburst import Stack, results; results.write('m', {'x': 1.0}, time=0)\n"
        "assert 'Stack' in dir(cloudburst) and not hasattr(cloudburst, 'Stick')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
