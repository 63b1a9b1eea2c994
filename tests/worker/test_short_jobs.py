"""Short jobs wait in their executors' queues; nothing that is promised of a job depends on that."""

from __future__ import annotations

import collections

import pytest

from tests.wait import wait_until
from tests.worker import payload

MODULE = (
    payload.MODULE
    + '''
def work(params):
    """Short, unless asked for something else."""
    if params.get("file"):
        Path(params["file"]).open("a").write("%d\\n" % params["n"])
    if params.get("s"):
        time.sleep(params["s"])
    if params.get("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    if params.get("hang"):
        hang(params)
    return {"n": params["n"], "pid": os.getpid(), "length": len(params.get("text", ""))}
'''
)


@pytest.fixture(scope="module")
def digest(stack):
    return stack.upload(payload.write(stack.directory / "short", {"worker.py": MODULE}))


@pytest.fixture
def worker(stack, tmp_path):
    """Starts workers, each with a state directory of its own but the environments in common."""
    started = []

    def start(name: str, **settings):
        state = stack.directory / f"{tmp_path.name}-{name}"
        state.mkdir()
        (stack.directory / "common").mkdir(exist_ok=True)
        (state / "environments").symlink_to(stack.directory / "common")
        started.append(stack.worker(state=state.name, **settings))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    stack.redis.flushall()


def warm(stack, digest, count=100):
    """Let the workers learn that jobs are short."""
    stack.wait(stack.submit("worker.work", *[{"n": n} for n in range(count)], digest=digest))


def many(count, special=None, at=0):
    jobs = [{"n": n} for n in range(count)]
    jobs[at] |= special or {}
    return jobs


def test_thousands_of_jobs_have_one_record_each_in_about_their_order(stack, worker, digest):
    worker("a", slots=2)

    for _ in range(3):
        records = stack.wait(stack.submit("worker.work", *many(3000), digest=digest))

        assert [record.value["n"] for record in records] == list(range(3000))
        assert {record.attempt for record in records} == {1}
    assert len({record.value["pid"] for record in records}) == 2
    starts = sorted(range(3000), key=lambda n: records[n].started_at)
    assert max(abs(place - n) for place, n in enumerate(starts)) < 600


def test_an_executor_that_dies_costs_an_attempt_of_the_job_that_ran_and_of_no_other(stack, worker, digest):
    worker("a", slots=2)
    warm(stack, digest)

    records = stack.wait(stack.submit("worker.work", *many(1000, {"crash": 1}, at=500), digest=digest))

    assert [record.index for record in records if record.state == "failed"] == [500]
    assert records[500].attempt == 3
    assert "SIGKILL" in records[500].error
    assert {record.attempt for record in records if record.index != 500} == {1}


def test_jobs_behind_one_that_takes_long_run_in_another_slot(stack, worker, digest):
    worker("a", slots=2)
    warm(stack, digest)
    ensemble = stack.submit("worker.work", *many(1000, {"s": 5}, at=100), digest=digest)

    status = wait_until(lambda: one_left(stack, ensemble), 4, "all jobs but the long one to end")

    assert (status.running, status.waiting) == (1, 0)


def one_left(stack, ensemble):
    status = stack.ensembles.status(ensemble)
    return status if status.finished == status.total - 1 else None


def test_jobs_behind_one_that_takes_long_go_to_another_worker(stack, worker, digest):
    worker("a", slots=1)
    worker("b", slots=1)
    warm(stack, digest, 1000)
    ensemble = stack.submit("worker.work", *many(1000, {"s": 5}, at=100), digest=digest)

    wait_until(lambda: one_left(stack, ensemble), 4, "all jobs but the long one to end")

    (*_, last) = stack.wait(ensemble)
    assert last.attempt == 1


def test_a_job_that_hangs_behind_short_ones_is_stopped_at_its_own_timeout(stack, worker, digest):
    worker("a", slots=1)
    warm(stack, digest)
    ensemble = stack.submit("worker.work", *many(300, {"hang": 1}, at=150), digest=digest, timeout_s=1)

    records = stack.wait(ensemble)

    assert [record.index for record in records if record.state == "failed"] == [150]
    assert records[150].duration_s < 3
    assert {record.attempt for record in records} == {1}


def test_an_executor_is_renewed_in_time_though_jobs_wait_in_its_queue(stack, worker, tmp_path):
    settings = {"worker.py": MODULE, "cloudburst.toml": "max_jobs_per_executor = 20\n"}
    renewed = stack.upload(payload.write(tmp_path / "renewed", settings))
    worker("a", slots=2)
    warm(stack, renewed)

    records = stack.wait(stack.submit("worker.work", *many(300), digest=renewed))

    jobs = collections.Counter(record.value["pid"] for record in records)
    assert max(jobs.values()) <= 20
    assert {record.attempt for record in records} == {1}


def test_sigterm_returns_what_has_not_begun_and_no_attempt_is_counted(stack, worker, digest, tmp_path):
    process = worker("a", slots=1)
    warm(stack, digest)
    marks = tmp_path / "marks"
    ensemble = stack.submit(
        "worker.work", *[{"n": n, "s": 0.002, "file": str(marks)} for n in range(500)], digest=digest
    )
    wait_until(lambda: marks.exists() and len(marks.read_text().splitlines()) > 50)

    process.terminate()

    assert process.wait(10) == 0
    status = stack.ensembles.status(ensemble)
    assert status.running == 0
    assert status.waiting == 500 - len(marks.read_text().splitlines())
    worker("b")
    records = stack.wait(ensemble)
    assert {record.attempt for record in records} == {1}
    begun = [int(line) for line in marks.read_text().splitlines()]
    assert sorted(begun) == list(range(500))


def test_cancel_stops_jobs_that_wait_in_an_executors_queue(stack, worker, digest, tmp_path):
    worker("a", slots=1)
    warm(stack, digest)
    marks = tmp_path / "marks"
    jobs = [{"n": n, "s": 0.004, "file": str(marks)} for n in range(3000)]
    ensemble = stack.submit("worker.work", *jobs, digest=digest)
    wait_until(lambda: marks.exists() and len(marks.read_text().splitlines()) > 20)

    stack.ensembles.cancel(ensemble)

    (record,) = stack.wait(stack.submit("worker.work", {"n": 1}, digest=digest))
    assert record.state == "finished"
    status = stack.ensembles.status(ensemble)
    assert status.finished + status.cancelled == 3000
    assert len(stack.wait(ensemble)) == 3000


def test_large_descriptions_pass_through_the_queue_too(stack, worker, digest):
    worker("a", slots=1)
    warm(stack, digest)
    lengths = [10, 20_000, 40_000, 400_000] * 20

    jobs = [{"n": n, "text": "x" * length} for n, length in enumerate(lengths)]
    records = stack.wait(stack.submit("worker.work", *jobs, digest=digest))

    assert [record.value["length"] for record in records] == lengths


def test_short_jobs_do_not_wait_for_each_others_round_trips(stack, worker, digest):
    worker("a", slots=1)
    warm(stack, digest)
    stack.redis.config_resetstat()

    stack.wait(stack.submit("worker.work", *many(2000), digest=digest))

    calls = stack.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls < 2000 / 2
