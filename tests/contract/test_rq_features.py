"""What stock clients ask of RQ: each test runs against a stock worker, which is the specification, and ours."""

from __future__ import annotations

from rq.job import Dependency

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
