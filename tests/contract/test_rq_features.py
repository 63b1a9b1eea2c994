"""What stock clients ask of RQ: each test runs with a stock worker, which is the specification, and ours."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rq import Callback, Repeat, Retry
from rq.command import send_command, send_kill_horse_command, send_shutdown_command, send_stop_job_command
from rq.exceptions import DuplicateJobError
from rq.job import Dependency, Job
from rq.registry import CanceledJobRegistry
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from tests.wait import wait_until

# -- dependencies --------------------------------------------------------------------------------------


def test_dependents_run_one_after_another_and_leave_their_places(side):
    gate = side.hold()
    first = side.enqueue("note", "first")
    second = side.enqueue("note", "second", depends_on=first)
    third = side.enqueue("note", "third", depends_on=second)
    assert [side.places(job) for job in (first, second, third)] == [["queue"], ["deferred"], ["deferred"]]

    gate.touch()

    assert side.wait(third) == "finished"
    assert side.ran() == ["first", "second", "third"]
    assert [side.places(job) for job in (first, second, third)] == [["finished"]] * 3
    assert side.redis.exists(first.dependents_key, second.dependents_key) == 0


def test_a_job_with_several_dependencies_waits_for_all_of_them(side):
    gate = side.hold()
    parents = [side.enqueue("note", f"parent-{i}") for i in range(3)]
    child = side.enqueue("note", "child", depends_on=parents)

    gate.touch()

    assert side.wait(child) == "finished"
    assert side.ran() == ["parent-0", "parent-1", "parent-2", "child"]


def test_dependents_of_a_failed_job_wait_until_it_has_been_run_again(side):
    parent = side.enqueue("fail_once", "parent")
    child = side.enqueue("note", "child", depends_on=parent)
    assert side.wait(parent) == "failed"
    side.settle()
    assert side.places(child) == ["deferred"]

    side.again(parent).requeue()

    assert side.wait(child, "finished") == "finished"
    assert side.ran() == ["parent", "parent", "child"]


def test_a_dependency_that_may_fail_does_not_keep_its_dependents(side):
    gate = side.hold()
    parent = side.enqueue("fail", "parent")
    child = side.enqueue("note", "child", depends_on=Dependency(parent, allow_failure=True))

    gate.touch()

    assert side.wait(child) == "finished"
    assert side.wait(parent) == "failed"


def test_a_dependent_goes_to_the_front_of_its_queue_if_it_was_asked_for(side):
    gate = side.hold()
    parent = side.enqueue("note", "parent")
    waiting = side.enqueue("note", "waiting", queue="unserved")
    back = side.enqueue("note", "back", queue="unserved", depends_on=parent)
    first = Dependency(parent, enqueue_at_front=True)
    front = side.enqueue("note", "front", queue="unserved", depends_on=first)

    gate.touch()

    side.wait(front, "queued")
    side.wait(back, "queued")
    assert side.queue("unserved").job_ids == [front.id, waiting.id, back.id]


def test_a_dependent_of_another_queue_goes_there(side):
    gate = side.hold()
    parent = side.enqueue("note", "parent")
    child = side.enqueue("note", "child", queue="elsewhere", depends_on=parent)
    assert side.places(child) == ["deferred"]

    gate.touch()

    assert side.wait(child, "queued") == "queued"
    assert side.places(child) == ["queue"]
    child.delete()


def test_a_job_whose_dependency_has_finished_already_runs_at_once(side):
    parent = side.enqueue("note", "parent")
    side.wait(parent)

    child = side.enqueue("note", "child", depends_on=parent)

    assert side.wait(child) == "finished"


def test_jobs_that_are_enqueued_together_may_depend_on_others(side):
    gate = side.hold()
    parent = side.enqueue("note", "parent")
    prepared = side.queue().prepare_data("features.note", (side.params("child"),), depends_on=parent)
    (child,) = side.queue().enqueue_many([prepared])

    gate.touch()

    assert side.wait(child) == "finished"
    assert side.ran() == ["parent", "child"]


def test_a_dependency_that_was_deleted_keeps_nobody_who_has_another(side):
    gate = side.hold()
    deleted, parent = side.enqueue("note", "deleted"), side.enqueue("note", "parent")
    child = side.enqueue("note", "child", depends_on=[deleted, parent])
    alone = side.enqueue("note", "alone", depends_on=deleted)
    deleted.delete()

    gate.touch()

    assert side.wait(child) == "finished"
    assert side.places(alone) == ["deferred"]
    assert side.ran() == ["parent", "child"]


def test_a_dependent_runs_although_nothing_is_kept_of_its_dependency(side):
    gate = side.hold()
    parent = side.enqueue("note", "parent", result_ttl=0)
    child = side.enqueue("note", "child", depends_on=parent)

    gate.touch()

    assert side.wait(child) == "finished"
    assert side.redis.exists(parent.key, parent.dependents_key) == 0


def test_a_cancelled_job_keeps_its_dependents_unless_asked_otherwise(side):
    gate = side.hold()
    parents = [side.enqueue("note", f"parent-{i}") for i in range(2)]
    children = [side.enqueue("note", f"child-{i}", depends_on=parents[i]) for i in range(2)]
    parents[0].cancel()
    parents[1].cancel(enqueue_dependents=True)

    gate.touch()

    assert side.wait(children[1]) == "finished"
    assert side.places(children[0]) == ["deferred"]
    assert side.ran() == ["child-1"]


def test_a_dependent_that_was_cancelled_is_not_run(side):
    gate = side.hold()
    parent = side.enqueue("note", "parent")
    child = side.enqueue("note", "child", depends_on=parent)
    child.cancel()

    gate.touch()

    side.wait(parent)
    side.settle()
    assert side.again(child).get_status() == "canceled"
    assert side.ran() == ["parent"]


def test_what_is_left_of_dependencies_expires_with_the_job(side):
    gate = side.hold()
    parent = side.enqueue("fail", "parent", failure_ttl=100)
    side.enqueue("note", "child", depends_on=parent)
    done = side.enqueue("note", "done", result_ttl=100)
    after = side.enqueue("note", "after", depends_on=done, result_ttl=50)

    gate.touch()

    side.wait(after)
    assert 0 < side.ttl(parent.dependents_key) <= 100
    assert 0 < side.ttl(after.dependencies_key) <= 50


# -- how long things are kept --------------------------------------------------------------------------


def test_a_job_that_waits_longer_than_its_ttl_is_not_run(side):
    gate = side.hold()
    job = side.enqueue("note", "too late", ttl=1)
    wait_until(lambda: not side.redis.exists(job.key), what="the job to expire")

    gate.touch()

    side.settle()
    assert side.ran() == []
    assert side.queue().job_ids == []


def test_the_ttl_is_over_when_the_job_starts(side):
    job = side.enqueue("nap", params={"s": 1.3}, ttl=1)

    assert side.wait(job) == "finished"
    assert side.ttl(job.key) > 100


def test_a_dependents_ttl_begins_when_it_is_queued(side):
    gate = side.hold()
    parent = side.enqueue("note", "parent")
    child = side.enqueue("note", "child", queue="unserved", depends_on=parent, ttl=300)
    side.redis.persist(child.key)

    gate.touch()

    side.wait(child, "queued")
    assert 0 < side.ttl(child.key) <= 300
    child.delete()


@pytest.mark.parametrize(
    ("asked", "kept"), [(None, range(400, 501)), (100, range(90, 101)), (-1, [-1]), (0, [-2])]
)
def test_a_finished_job_is_kept_for_its_result_ttl(side, asked, kept):
    job = side.enqueue("note", params={"value": 1}, result_ttl=asked)
    side.settle()

    assert side.ttl(job.key) in kept
    assert side.ttl(f"rq:results:{job.id}") in kept
    assert side.places(job) == ([] if asked == 0 else ["finished"])
    assert side.ran() == ["job"]


@pytest.mark.parametrize(
    ("asked", "kept"), [(None, range(31_000_000, 31_536_001)), (100, range(90, 101)), (-1, [-1]), (0, [-2])]
)
def test_a_failed_job_is_kept_for_its_failure_ttl(side, asked, kept):
    job = side.enqueue("fail", failure_ttl=asked)
    side.settle()

    assert side.ttl(job.key) in kept
    # Stock RQ never lets the traceback expire if no ttl was asked for, although it does the job.
    assert side.ttl(f"rq:results:{job.id}") in [
        *kept,
        *([-1] if side.name == "stock" and asked is None else []),
    ]
    assert side.places(job) == ([] if asked == 0 else ["failed"])


def test_a_job_that_runs_longer_than_its_timeout_fails(side):
    job = side.enqueue("nap", params={"s": 20}, job_timeout=1)

    assert side.wait(job) == "failed"
    assert "timeout" in side.again(job).latest_result().exc_string
    assert side.places(job) == ["failed"]


def test_meta_stays_as_it_was(side):
    job = side.enqueue("note", meta={"campaign": 7, "tags": ["a"]})

    side.wait(job)

    assert side.again(job).meta == {"campaign": 7, "tags": ["a"]}


def test_a_coroutine_is_awaited(side):
    job = side.enqueue("later")

    assert side.wait(job) == "finished"
    assert side.again(job).return_value() == "later"


# -- retries, repeats and schedules --------------------------------------------------------------------


def test_a_job_is_retried_as_often_as_it_may_be(side):
    job = side.enqueue("fail", retry=Retry(max=2))

    assert side.wait(job) == "failed"
    assert side.ran() == ["job"] * 3
    assert side.again(job).retries_left == 0
    assert side.places(job) == ["failed"]


def test_a_retry_that_succeeds_leaves_a_finished_job(side):
    job = side.enqueue("fail_once", retry=Retry(max=2))

    assert side.wait(job) == "finished"
    assert side.again(job).return_value() == "the second time"
    assert side.again(job).retries_left == 1
    assert len(side.again(job).results()) == 1


def test_the_intervals_between_retries_are_kept(side):
    job = side.enqueue("fail", retry=Retry(max=2, interval=[1, 200]))

    def later() -> float:
        score = side.redis.zscore("rq:scheduled:default", job.id)
        return score - time.time() if score else 0.0

    wait_until(lambda: later() > 100, 20, "the second retry to be scheduled")
    assert 195 <= later() <= 200
    assert side.ran() == ["job"] * 2
    assert side.wait(job, "scheduled") == "scheduled"
    assert side.places(job) == ["scheduled"]
    job.delete()


def test_dependents_wait_for_the_last_retry(side):
    parent = side.enqueue("fail_once", "parent", retry=Retry(max=1, interval=1))
    child = side.enqueue("note", "child", depends_on=parent)

    assert side.wait(child) == "finished"
    assert side.ran() == ["parent", "parent", "child"]


def test_a_retry_goes_to_the_front_if_it_was_asked_for(side):
    gate = side.hold()
    first = side.enqueue("fail_once", "first", retry=Retry(max=1, enqueue_at_front=True))
    others = [side.enqueue("nap", f"other-{i}", params={"s": 0.2}) for i in range(4)]

    gate.touch()

    side.wait(first, "finished")
    side.wait(others[-1])
    # A worker may have claimed some of those that waited behind it.
    assert side.ran().index("first", 1) < side.ran().index("other-3")


def test_a_job_is_repeated(side):
    job = side.enqueue("note", repeat=Repeat(times=2))
    side.wait(job)
    wait_until(lambda: len(side.ran()) == 3, what="three runs")
    side.settle()

    assert side.ran() == ["job"] * 3
    assert side.again(job).repeats_left == 0
    assert side.wait(job) == "finished"
    assert len(side.again(job).results()) == 3
    assert side.places(job) == ["finished"]


def test_a_repeat_waits_for_its_interval(side):
    job = side.enqueue("note", repeat=Repeat(times=2, interval=[100, 200]))

    side.wait(job, "scheduled")
    wait_until(lambda: "scheduled" in side.places(job), what="the job to be scheduled")
    assert 190 <= side.redis.zscore("rq:scheduled:default", job.id) - time.time() <= 200
    assert side.places(job) == ["finished", "scheduled"]
    assert side.ttl(job.key) == -1
    job.delete()


@pytest.mark.parametrize("how", ["enqueue_in", "enqueue_at"])
def test_a_scheduled_job_runs_when_it_is_due(side, how):
    second = timedelta(seconds=1)
    when = second if how == "enqueue_in" else datetime.now(UTC) + second
    job = getattr(side.queue(), how)(when, "features.note", side.params("due"))
    assert side.places(job) == ["scheduled"]

    assert side.wait(job) == "finished"
    assert side.ran() == ["due"]


def test_a_unique_job_runs_once(side):
    gate = side.hold()
    job = side.enqueue("note", job_id="only-one", unique=True, result_ttl=0)
    with pytest.raises(DuplicateJobError):
        side.enqueue("note", job_id="only-one", unique=True)

    gate.touch()

    side.settle()
    assert side.ran() == ["job"]
    assert side.redis.exists(job.key) == 0


def test_a_job_may_be_enqueued_at_the_front(side):
    gate = side.hold()
    side.enqueue("note", "second")
    last = side.enqueue("note", "third")
    side.enqueue("note", "first", at_front=True)

    gate.touch()

    side.wait(last)
    assert side.ran() == ["first", "second", "third"]


# -- callbacks -----------------------------------------------------------------------------------------


def test_a_success_callback_sees_its_job_and_the_result(side):
    job = side.enqueue(
        "note",
        params={"value": {"a": [1, 2]}},
        on_success=Callback("features.on_success"),
        meta={"m": 1},
        description="what it is",
        job_timeout=77,
    )

    assert side.wait(job) == "finished"
    event = side.event("success")
    assert (event["result"], event["rest"]) == ({"a": [1, 2]}, [])
    assert event["job"] == {
        "id": job.id,
        "args": ["job"],
        "kwargs": {},
        "func_name": "features.note",
        "origin": "default",
        "description": "what it is",
        "meta": {"m": 1},
        "timeout": 77,
        "enqueued": True,
        "retries_left": None,
        "status": "finished",
    }


def test_a_failure_callback_sees_the_exception(side):
    job = side.enqueue(
        "fail", on_failure=Callback("features.on_failure"), on_success=Callback("features.on_success")
    )

    assert side.wait(job) == "failed"
    event = side.event("failure")
    assert (event["type"], event["value"], event["frames"][-1]) == ("ValueError", "wanted by job", "fail")
    assert (event["job"]["id"], event["job"]["status"]) == (job.id, "failed")
    assert "wanted by job" in side.again(job).latest_result().exc_string


def test_a_failure_callback_is_called_for_every_attempt(side):
    job = side.enqueue("fail", retry=Retry(max=2), on_failure=Callback("features.on_failure"))

    assert side.wait(job) == "failed"
    left = [event["job"]["retries_left"] for event in side.events() if event["event"] == "failure"]
    assert left == [2, 1, 0]


def test_what_a_success_callback_raises_fails_the_job(side):
    job = side.enqueue(
        "note",
        on_success=Callback("features.raise_in_callback"),
        on_failure=Callback("features.on_failure"),
    )

    assert side.wait(job) == "failed"
    assert side.event("failure")["type"] == "KeyError"
    assert "from the callback" in side.again(job).latest_result().exc_string


def test_what_a_failure_callback_raises_is_what_the_job_failed_with(side):
    job = side.enqueue("fail", on_failure=Callback("features.raise_in_callback"))

    assert side.wait(job) == "failed"
    told = side.again(job).latest_result().exc_string
    assert told.strip().endswith("KeyError: 'from the callback'")
    assert "wanted by job" in told


def test_a_success_callback_that_takes_too_long_fails_the_job(side):
    job = side.enqueue(
        "note",
        on_success=Callback("features.hang_in_callback", timeout=1),
        on_failure=Callback("features.on_failure"),
    )

    assert side.wait(job) == "failed"
    assert side.event("failure")["type"] == "JobTimeoutException"
    assert "maximum timeout value (1 seconds)" in side.again(job).latest_result().exc_string


def test_a_failure_callback_is_called_after_a_timeout(side):
    job = side.enqueue(
        "nap", params={"s": 20}, job_timeout=1, on_failure=Callback("features.on_failure", timeout=5)
    )

    assert side.wait(job) == "failed"
    assert side.event("failure")["type"] == "JobTimeoutException"
    assert side.event("failure")["frames"][-2] == "nap"


def test_a_callback_may_take_longer_than_the_job(side):
    job = side.enqueue("note", job_timeout=1, on_success=Callback("features.nap_in_callback", timeout=5))

    assert side.wait(job) == "finished"


def test_a_callback_that_does_not_exist_fails_the_job(side):
    job = side.enqueue("note", on_success=Callback("features.no_such_function"))

    assert side.wait(job) == "failed"
    assert "no_such_function" in side.again(job).latest_result().exc_string


def test_dependents_wait_for_the_callback_of_their_dependency(side):
    gate = side.hold()
    parent = side.enqueue("note", "parent", on_success=Callback("features.on_success"))
    child = side.enqueue("note", "child", depends_on=parent)

    gate.touch()

    side.wait(child)
    assert [e["event"] for e in side.events() if e["name"] in ("parent", "child")] == [
        "run",
        "success",
        "run",
    ]


# -- cancelling, stopping, suspending ------------------------------------------------------------------


@pytest.mark.parametrize("how", ["queued", "scheduled", "deferred"])
def test_a_job_that_waits_can_be_cancelled(side, how):
    gate = side.hold()
    parent = side.enqueue("note", "parent")
    if how == "scheduled":
        job = side.queue().enqueue_in(timedelta(seconds=1), "features.note", side.params("job"))
    else:
        job = side.enqueue("note", "job", depends_on=parent if how == "deferred" else None)
    assert side.wait(job, how) == how

    job.cancel()

    gate.touch()
    side.settle()
    assert side.again(job).get_status() == "canceled"
    assert side.places(job) == ["canceled"]
    assert side.ran() == ["parent"]


def test_a_cancelled_job_can_be_requeued(side):
    gate = side.hold()
    job = side.enqueue("note")
    job.cancel()

    CanceledJobRegistry(queue=side.queue()).requeue(job.id)

    gate.touch()
    assert side.wait(job, "finished") == "finished"
    assert side.places(job) == ["finished"]


def test_cancelling_a_running_job_does_not_stop_it(side):
    gate = side.hold()
    job = side.enqueue("note", "next")
    (held,) = [j for j in side.queue().started_job_registry.get_job_ids() if j != job.id]
    running = Job.fetch(held, connection=side.redis, serializer=JSONSerializer)
    running.cancel()
    assert running.get_status() == "canceled"

    gate.touch()

    side.wait(job)
    assert side.wait(running, "finished") == "finished"
    assert side.again(running).return_value() == "through"


def test_a_job_that_waits_can_be_deleted(side):
    gate = side.hold()
    job = side.enqueue("note")
    job.delete()

    gate.touch()

    side.settle()
    assert side.redis.exists(job.key) == 0
    assert side.ran() == []


def test_a_running_job_can_be_stopped(side):
    job = side.enqueue(
        "nap",
        params={"s": 60},
        retry=Retry(max=3),
        on_stopped=Callback("features.on_stopped"),
        on_failure=Callback("features.on_failure"),
        failure_ttl=100,
    )
    child = side.enqueue("note", "child", depends_on=Dependency(job, allow_failure=True))
    side.wait(job, "started")
    wait_until(side.ran, what="the job to run")

    send_stop_job_command(side.redis, job.id)

    assert side.wait(job) == "stopped"
    side.settle()
    assert side.places(job) == ["failed"]
    assert "stopped" in side.again(job).latest_result().exc_string.lower()
    assert side.ttl(job.key) in range(90, 101)
    assert side.places(child) == ["deferred"]
    assert [event["event"] for event in side.events() if event["name"] == "job"] == ["run", "stopped"]
    assert (side.event("stopped")["job"]["id"], side.event("stopped")["job"]["status"]) == (job.id, "started")
    assert side.queue().started_job_registry.get_job_ids() == []


def test_a_job_that_was_stopped_can_be_requeued(side):
    once = side.enqueue("nap", params={"s": 60})
    wait_until(side.ran, what="the job to run")
    send_stop_job_command(side.redis, once.id)
    side.wait(once, "stopped")
    Path(str(side.trace) + ".awake").touch()

    side.again(once).requeue()

    assert side.wait(once, "finished") == "finished"
    assert side.places(once) == ["finished"]


def test_orders_for_other_jobs_disturb_nobody(side):
    gate = side.hold()
    send_command(side.redis, side.worker_name(), "stop-job", job_id="another")
    send_command(side.redis, side.worker_name(), "no-such-command")

    gate.touch()

    side.settle()


def test_a_killed_horse_fails_its_job_and_the_worker_goes_on(side):
    job = side.enqueue("nap", params={"s": 60}, on_failure=Callback("features.on_failure"))
    wait_until(side.ran, what="the job to run")

    send_kill_horse_command(side.redis, side.worker_name())

    assert side.wait(job) == "failed"
    assert side.places(job) == ["failed"]
    side.settle()
    assert [event["event"] for event in side.events() if event["name"] == "job"] == ["run"]


def test_a_killed_horse_costs_a_retry(side):
    job = side.enqueue("nap", params={"s": 60}, retry=Retry(max=1, interval=100))
    wait_until(side.ran, what="the job to run")

    send_kill_horse_command(side.redis, side.worker_name())

    assert side.wait(job, "scheduled") == "scheduled"
    assert side.again(job).retries_left == 0
    job.delete()


def test_suspended_workers_end_what_runs_and_start_nothing(side):
    gate = side.hold()
    suspend(side.redis)
    gate.touch()
    wait_until(lambda: side.worker_state() == "suspended", what="the worker to be suspended")

    job = side.enqueue("note", "later")
    for _ in range(2):
        before = side.heartbeat()
        wait_until(lambda before=before: side.heartbeat() != before, what="a sign of life")
    assert side.places(job) == ["queue"]
    assert side.ran() == []

    resume(side.redis)

    assert side.wait(job) == "finished"


def test_a_worker_shuts_down_on_order_when_its_job_has_ended(side):
    gate = side.hold()
    job = side.enqueue("note", "not any more")

    send_shutdown_command(side.redis, side.worker_name())
    wait_until(side.shutting_down, what="the worker to have heard it")
    gate.touch()

    assert side.process.wait(20) == 0
    assert side.places(job) == ["queue"]
    assert [event["name"] for event in side.events()] == ["gate"]
    assert side.redis.smembers("rq:workers") == set()
    job.delete()
