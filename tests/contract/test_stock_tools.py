"""What stock clients and tools do to our worker and to ensembles, where a stock worker has no counterpart."""

from __future__ import annotations

from pathlib import Path

import pytest
from rq import Callback, Queue
from rq.command import send_stop_job_command
from rq.job import Dependency, Job
from rq.serializers import JSONSerializer

from cloudburst.model import EnsembleSpec
from cloudburst.rqwire.ensembles import encode_description
from tests.contract import features
from tests.contract.sides import OurSide
from tests.wait import wait_until

pytestmark = pytest.mark.parametrize("running", [OurSide], indirect=True, ids=["ours"])


@pytest.fixture
def digest(side) -> str:
    """The payload of the contract tests, as an ensemble names it."""
    directory = side.directory / "payload"
    directory.mkdir(exist_ok=True)
    for name, text in {"features.py": Path(features.__file__).read_text(), "Pipfile": "[packages]\n"}.items():
        (directory / name).write_text(text)
    return side.stack.upload(directory)


@pytest.fixture
def submit(side, digest):
    """Submits an ensemble of jobs of one function; its id."""

    def submit(function: str, *descriptions: dict, **spec) -> str:
        ensembles = side.stack.ensembles
        ensemble = ensembles.create(EnsembleSpec("e", f"features.{function}", digest, **spec))
        encoded = [encode_description(side.params(f"job-{i}", **d), i) for i, d in enumerate(descriptions)]
        ensembles.append(ensemble, f"features.{function}", 0, encoded)
        ensembles.seal(ensemble)
        return ensemble

    return submit


def job_of(side, ensemble: str, index: int) -> Job:
    return Job.fetch(f"{ensemble}-{index}", connection=side.redis, serializer=JSONSerializer)


def outcome(side, ensemble: str) -> tuple[list[str], list[str]]:
    """States and errors of a complete ensemble, by index; every job is counted and recorded once."""
    records = side.stack.wait(ensemble)
    status = side.stack.ensembles.status(ensemble)
    assert [record.index for record in records] == list(range(status.total))
    assert (status.waiting, status.running) == (0, 0)
    assert status.finished + status.failed + status.cancelled == status.total
    return [record.state for record in records], [record.error for record in records]


def test_a_job_of_an_ensemble_that_stock_rq_cancels_is_recorded_as_cancelled(side, submit):
    gate = side.hold()
    ensemble = submit("note", {}, {}, {})
    job_of(side, ensemble, 1).cancel()

    gate.touch()

    states, errors = outcome(side, ensemble)
    assert states == ["finished", "cancelled", "finished"]
    assert errors[1] == "cancelled by another tool"
    assert side.ran() == ["job-0", "job-2"]


def test_a_job_of_an_ensemble_that_stock_rq_cancels_while_it_runs_ends_as_it_ends(side, submit):
    gate = str(side.trace) + ".free"
    ensemble = submit("gate", {"gate": gate})
    wait_until(side.events, what="the job to run")
    job_of(side, ensemble, 0).cancel()
    wait_until(
        lambda: side.redis.zscore("rq:canceled:default", f"{ensemble}-0") == float("inf"),
        what="the worker to have seen it",
    )
    side.check()

    Path(gate).touch()

    assert outcome(side, ensemble)[0] == ["finished"]


def test_a_job_of_an_ensemble_that_stock_rq_stops_is_recorded_as_failed(side, submit):
    ensemble = submit("nap", {"s": 60}, {"s": 0}, retries=2)
    wait_until(side.ran, what="the job to run")

    send_stop_job_command(side.redis, f"{ensemble}-0")

    states, errors = outcome(side, ensemble)
    assert states == ["failed", "finished"]
    assert errors[0] == "stopped: a client has ordered it (stop-job)"
    assert side.again(job_of(side, ensemble, 0)).get_status() == "stopped"


def test_a_job_of_an_ensemble_that_was_stopped_can_be_retried(side, submit):
    ensemble = submit("nap", {"s": 60})
    wait_until(side.ran, what="the job to run")
    send_stop_job_command(side.redis, f"{ensemble}-0")
    side.stack.wait(ensemble)
    Path(str(side.trace) + ".awake").touch()

    assert side.stack.ensembles.retry(ensemble) == 1

    assert outcome(side, ensemble)[0] == ["finished"]


def test_a_running_job_that_stock_rq_deletes_is_stopped_and_recorded_as_cancelled(side, submit):
    ensemble = submit("nap", {"s": 60}, {"s": 0})
    wait_until(side.ran, what="the job to run")

    job_of(side, ensemble, 0).delete()

    states, errors = outcome(side, ensemble)
    assert states == ["cancelled", "finished"]
    assert errors[0] == "deleted by another tool while it ran"
    assert side.redis.zcard("rq:wip:default") == 0


def test_a_running_stock_job_that_is_deleted_is_stopped_and_leaves_nothing(side):
    job = side.enqueue("nap", params={"s": 60})
    wait_until(side.ran, what="the job to run")

    job.delete()

    side.settle()
    wait_until(lambda: side.redis.zcard("cb:lease:default") == 0, what="the lease to be settled")
    assert side.redis.zcard("rq:wip:default") == 0
    assert side.redis.exists(job.key) == 0


def test_a_stock_job_may_depend_on_jobs_of_an_ensemble(side, submit):
    gate = side.hold()
    ensemble = submit("note", {}, {})
    job = side.enqueue("note", "after", depends_on=[f"{ensemble}-0", f"{ensemble}-1"])

    gate.touch()

    assert side.wait(job) == "finished"
    assert side.ran() == ["job-0", "job-1", "after"]


def test_a_stock_job_may_depend_on_a_job_of_an_ensemble_that_fails_as_a_whole(side, submit):
    gate = side.hold()
    ensemble = submit("no_such_function", {}, {})
    job = side.enqueue("note", "after", depends_on=Dependency(f"{ensemble}-1", allow_failure=True))

    gate.touch()

    assert side.wait(job) == "finished"


def test_a_dependent_of_a_job_that_is_set_aside_waits_as_for_any_failure(side):
    parent = side.enqueue("leave", "parent")
    child = side.enqueue("note", "child", depends_on=parent)
    allowed = side.enqueue("note", "allowed", depends_on=Dependency(parent, allow_failure=True))

    assert side.wait(parent) == "failed"

    assert side.wait(allowed) == "finished"
    assert side.places(child) == ["deferred"]


def test_callbacks_of_pickled_jobs_see_their_arguments_and_meta(side):
    job = Queue(connection=side.redis).enqueue(
        "features.note",
        side.params("pickled"),
        meta={"m": (1, 2)},
        on_success=Callback("features.on_success"),
    )

    assert side.wait(job) == "finished"
    seen = side.event("success")["job"]
    assert (seen["args"], seen["meta"]) == (["pickled"], {"m": [1, 2]})


def test_a_callback_must_belong_to_the_payload(side):
    job = side.enqueue("note", on_success=Callback("os.getcwd"))

    assert side.wait(job) == "failed"
    assert "'os' is not a module of the payload" in side.again(job).latest_result().exc_string


@pytest.mark.parametrize("use", ["job.connection", "job.save_meta()", "setattr(job, 'meta', {})"])
def test_what_a_callback_cannot_do_is_said(side, use):
    job = side.enqueue("note", params={"use": use}, on_success=Callback("features.use_the_job"))

    assert side.wait(job) == "failed"
    told = side.again(job).latest_result().exc_string
    assert "without Redis" in told or "read-only" in told


def test_a_function_can_read_the_meta_of_its_job(side):
    large = {"text": "x" * 100_000}
    with_meta, without = side.enqueue("meta_of_mine", meta=large), side.enqueue("environment")

    assert side.wait(with_meta) == side.wait(without) == "finished"
    assert side.again(with_meta).return_value() == 100_000
    assert "CLOUDBURST_JOB_META" not in side.again(without).return_value()


def test_a_stopped_callback_that_fails_changes_nothing(side):
    job = side.enqueue("nap", params={"s": 60}, on_stopped=Callback("features.raise_in_callback"))
    wait_until(side.ran, what="the job to run")

    send_stop_job_command(side.redis, job.id)

    assert side.wait(job) == "stopped"
    assert "its stopped callback failed: KeyError" in side.stack.log("worker-state")


def test_a_stopped_callback_that_hangs_is_ended_after_its_timeout(side):
    callback = Callback("features.hang_in_callback", timeout=1)
    job = side.enqueue("nap", params={"s": 60}, on_stopped=callback)
    wait_until(side.ran, what="the job to run")

    send_stop_job_command(side.redis, job.id)

    assert side.wait(job) == "stopped"
    side.settle()


def test_orders_are_heard_again_after_redis_was_away(side):
    side.stack.redis_server.kill()
    side.stack.redis_server.start()
    wait_until(lambda: side.redis.pubsub_channels("rq:pubsub:*"), 20, "the worker to listen again")
    job = side.enqueue("nap", params={"s": 60})
    wait_until(side.ran, 20, "the job to run")

    send_stop_job_command(side.redis, job.id)

    assert side.wait(job) == "stopped"
    assert side.places(job) == ["failed"]
