"""What a worker does with jobs of every kind: one worker that stays, since nothing may disturb it."""

from __future__ import annotations

import itertools
import json
import time
import zipfile
from pathlib import Path

import pytest
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from tests.wait import wait_until
from tests.worker import payload


@pytest.fixture(scope="module")
def stack(stack):
    stack.worker(slots=2)
    return stack


@pytest.fixture
def post(stack, tmp_path):
    """Puts worker.zip into the file store, as a stock client does."""

    def post(**files: str) -> None:
        directory = payload.write(tmp_path / "posted", files)
        with zipfile.ZipFile(tmp_path / "worker.zip", "w") as archive:
            for path in directory.iterdir():
                archive.write(path, path.name)
        stack.store.put("worker.zip", tmp_path / "worker.zip")

    return post


def test_an_ensemble_runs_and_its_records_have_everything(stack):
    records = stack.run("worker.add", *({"a": i, "b": 1} for i in range(20)))

    assert [record.value["sum"] for record in records] == [i + 1 for i in range(20)]
    assert [record.description for record in records] == [{"a": i, "b": 1} for i in range(20)]
    assert {record.state for record in records} == {"finished"}
    assert {record.node for record in records} == {"state"}
    assert len({record.value["pid"] for record in records}) <= 2
    assert all(abs(record.started_at - time.time()) < 100 for record in records)


def test_jobs_start_in_the_order_in_which_they_were_enqueued(stack):
    records = stack.run("worker.sleep", *({"s": 0.05} for _ in range(20)))

    starts = [record.started_at for record in records]
    # Two slots begin side by side, and a busy machine lets one of them wait.
    assert all(later > earlier - 0.1 for earlier, later in itertools.pairwise(starts))


@pytest.mark.parametrize(
    ("function", "description", "error"),
    [
        ("worker.say", {"n": 1}, "ValueError: after 1"),
        ("worker.undecodable", {}, "ValueError: caf\\udce9.inp"),
        ("worker.exit", {}, "sys.exit(3)"),
        ("worker.not_json", {}, "not JSON"),
        ("worker.print_much", {"mb": 100, "fail": True}, "RuntimeError: done printing"),
    ],
)
def test_a_failing_job_disturbs_no_other(stack, function, description, error):
    ensemble = stack.submit(function, description)
    good = stack.submit("worker.add", {"a": 1, "b": 2})

    (record,) = stack.wait(ensemble)

    assert record.state == "failed"
    assert error in record.error
    assert stack.wait(good)[0].state == "finished"
    group = stack.failure(ensemble)
    assert (group.count, group.error) == (1, record.error)
    assert error.rpartition(": ")[2] in group.traceback
    assert len(group.output) <= 64 * 1024


def test_a_job_that_hangs_is_stopped_at_its_timeout_and_says_where_it_hung(stack):
    ensemble = stack.submit("worker.swallow", {}, timeout_s=1)

    (record,) = stack.wait(ensemble)

    assert record.error == "stopped: it ran longer than its timeout of 1 s"
    assert "in swallow" in stack.failure(ensemble).traceback


def test_a_job_that_kills_its_executor_is_set_aside_after_its_attempts(stack):
    ensemble = stack.submit("worker.crash", {}, max_attempts=2)

    (record,) = stack.wait(ensemble)

    assert record.attempt == 2
    assert "killed by SIGSEGV" in record.error
    assert "set aside" in record.error
    assert "last words" in stack.failure(ensemble).output


def test_a_job_that_leaves_without_a_word_is_set_aside(stack):
    (record,) = stack.run("worker.hard_exit", {}, max_attempts=1)

    assert "exited with status 3" in record.error


def test_a_job_that_fills_memory_is_stopped_and_its_neighbour_is_not(stack, tmp_path):
    greedy = stack.upload(payload.write(tmp_path / "greedy", {"cloudburst.toml": "max_rss_mb = 300\n"}))
    ensemble = stack.submit("worker.fill_memory", {}, digest=greedy)
    neighbour = stack.submit("worker.sleep", {"s": 1})

    (record,) = stack.wait(ensemble)

    assert "MiB of memory, more than 300 MiB (max_rss_mb of cloudburst.toml)" in record.error
    assert stack.wait(neighbour)[0].state == "finished"


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("worker.missing", "module 'worker' has no function 'missing'"),
        ("os.system", "'os' is not a module of the payload"),
        ("broken.work", "No module named 'six_of_one': broken.py imports it: add the package that brings it"),
    ],
)
def test_a_function_that_cannot_run_fails_the_whole_ensemble_at_once(stack, tmp_path, function, error):
    digest = stack.upload(payload.write(tmp_path / "broken", {"broken.py": "import six_of_one\n"}))
    ensemble = stack.submit(function, *({} for _ in range(200)), digest=digest)

    records = stack.wait(ensemble)

    status = stack.ensembles.status(ensemble)
    assert (status.state, status.failed) == ("failed", 200)
    assert error in status.error
    assert all(error in record.error for record in records)
    assert stack.redis.llen("rq:queue:default") == 0


def test_an_environment_that_cannot_be_built_fails_the_ensemble_with_the_tools_words(stack, tmp_path):
    directory = payload.write(tmp_path / "p", {"Pipfile": '[packages]\n[requires]\npython_version = "3.5"\n'})
    ensemble = stack.submit("worker.add", *({} for _ in range(5)), digest=stack.upload(directory))

    stack.wait(ensemble)

    status = stack.ensembles.status(ensemble)
    assert status.state == "failed"
    assert "3.5" in status.error


def test_a_payload_that_is_nowhere_fails_the_ensemble(stack):
    (record,) = stack.run("worker.add", {}, digest="0" * 64)

    assert record.state == "failed"
    assert "0000" in record.error


def test_cancel_stops_running_jobs_within_seconds(stack):
    ensemble = stack.submit("worker.hang", *({} for _ in range(5)))
    wait_until(lambda: stack.ensembles.status(ensemble).running == 2, what="two running jobs")

    assert stack.ensembles.cancel(ensemble) == 5

    (record,) = stack.run("worker.add", {"a": 1, "b": 1})
    assert record.state == "finished"
    assert {record.state for record in stack.wait(ensemble)} == {"cancelled"}


def test_what_a_running_job_prints_can_be_read(stack):
    from cloudburst.rqwire import output

    ensemble = stack.submit("worker.hang", {})

    wait_until(lambda: "hanging" in output.read(stack.redis, f"{ensemble}-0"), what="its output")

    stack.ensembles.cancel(ensemble)


def test_points_are_in_the_database_before_the_job_is_final(stack):
    ensemble = stack.submit("worker.points", {"n": 3})

    stack.wait(ensemble)

    assert len(stack.points("level")) == 3
    (point,) = [line for line in stack.points("result") if ensemble in line]
    assert json.loads(point)["fields"] == {"index": 0, "n": 3.0}


def test_secrets_of_the_stack_are_not_in_a_jobs_environment(stack):
    (record,) = stack.run("worker.environment", {})

    environment = record.value
    assert environment["INFLUX_TOKEN"]
    assert environment["OMP_NUM_THREADS"] == "1"
    hidden = [name for name in environment if name.startswith(("REDIS_", "FILE_HOST"))]
    assert hidden == []


def test_a_retry_runs_the_function_again(stack, tmp_path):
    file = tmp_path / "marks"

    (record,) = stack.run("worker.mark_and_fail", {"file": str(file)}, retries=2)

    assert record.error == "RuntimeError: marked"
    assert len(file.read_text().splitlines()) == 3


@pytest.mark.parametrize("serializer", [None, JSONSerializer])
def test_a_stock_client_enqueues_and_gets_its_value(stack, post, serializer):
    post()

    job = Queue(connection=stack.redis, serializer=serializer).enqueue("worker.add", {"a": 2, "b": 3})

    wait_until(lambda: job.get_status(refresh=True) == "finished", 60, "the job to finish")
    fetched = Job.fetch(job.id, connection=stack.redis, serializer=serializer)
    assert fetched.return_value()["sum"] == 5
    assert fetched.worker_name


def test_a_stock_client_sees_the_traceback_of_a_failed_job(stack, post):
    post()

    job = Queue(connection=stack.redis).enqueue("worker.say", {"n": 7})

    wait_until(lambda: job.get_status(refresh=True) == "failed", 60, "the job to fail")
    assert "ValueError: after 7" in job.latest_result().exc_string


def test_a_new_worker_zip_is_used_by_jobs_that_start_later(stack, post):
    queue = Queue(connection=stack.redis, serializer=JSONSerializer)
    values = []
    for version in (1, 2):
        post(**{"version.py": f"def work(params):\n    return {version}\n"})
        job = queue.enqueue("version.work", {})
        wait_until(lambda job=job: job.get_status(refresh=True) == "finished", 60, "the job to finish")
        values.append(job.return_value())

    assert values == [1, 2]


def test_nothing_is_left_in_the_scratch_directories(stack):
    stack.run("worker.place", {}, {}, {})

    slots = Path(stack.directory / "state" / "slots")
    wait_until(lambda: not list(slots.glob("*/scratch/*/*")), what="empty scratch directories")


def test_a_job_that_writes_into_its_executors_sockets_fails_and_the_worker_lives(stack):
    records = stack.run("worker.disturb", {}, {})

    assert {record.state for record in records} == {"failed"}
    assert "disturbed" in records[0].error
    (record,) = stack.run("worker.add", {"a": 1, "b": 1})
    assert record.state == "finished"
