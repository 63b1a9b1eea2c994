"""What a worker does at its start; how it ends, and what becomes of its jobs, is tested in tests/chaos."""

from __future__ import annotations

import os
import time

from cloudburst.rqwire import nodes
from cloudburst.rqwire.workers import workers
from tests.wait import wait_until


def test_two_workers_cannot_share_a_state_directory(stack):
    first = stack.worker(state="shared")

    second = stack._process(
        "cloudburst.worker",
        {
            "REDIS_PORT": str(stack.redis_server.port),
            "CLOUDBURST_STATE_DIR": str(stack.directory / "shared"),
        },
        "second",
    )

    assert second.wait(20) == 2
    assert "another worker uses" in stack.log("second")
    first.terminate()
    assert first.wait(20) == 0


def test_a_node_that_is_drained_starts_nothing_new_ends_what_runs_and_comes_back(stack, tmp_path):
    # given: a worker of one slot, busy, with jobs behind the running one
    worker = stack.worker(state="drained", CLOUDBURST_LEASE_S="5")
    stack.run("worker.add", {"a": 1, "b": 2})
    gate = tmp_path / "gate"
    ensemble = stack.submit("worker.wait_for", {"path": str(gate)}, *[{"path": str(gate)}] * 5)
    wait_until(lambda: stack.ensembles.status(ensemble).running, what="a job to run")

    # when the node is to be drained
    nodes.set_draining(stack.redis, "drained", True)

    # then it says so within two beats, and only the running job ends
    wait_until(lambda: state(stack, "drained") == "draining", 3, "the worker to notice")
    wait_until(lambda: stack.ensembles.status(ensemble).running == 1, what="what waits to be given back")
    gate.touch()
    wait_until(lambda: stack.ensembles.status(ensemble).finished == 1, what="the running job to end")
    time.sleep(1.5)  # beats in which it might start more
    status = stack.ensembles.status(ensemble)
    assert (status.finished, status.running, status.waiting) == (1, 0, 5)
    assert worker.poll() is None

    # and when the node is wanted again, the others run
    nodes.set_draining(stack.redis, "drained", False)
    assert len(stack.wait(ensemble)) == 6
    wait_until(lambda: state(stack, "drained") == "idle", 3, "the worker to say so")
    worker.terminate()
    assert worker.wait(20) == 0


def test_a_worker_that_starts_on_a_node_to_be_drained_claims_nothing(stack):
    nodes.set_draining(stack.redis, "closed", True)
    ensemble = stack.submit("worker.add", {"a": 1, "b": 2})

    worker = stack.worker(state="closed")

    wait_until(lambda: state(stack, "closed") == "draining", 3, "the worker to notice")
    time.sleep(1.5)  # beats in which it might start it
    assert stack.ensembles.status(ensemble).waiting == 1
    nodes.forget(stack.redis, "closed")
    (record,) = stack.wait(ensemble)
    assert record.attempt == 1
    worker.terminate()
    assert worker.wait(20) == 0


def test_how_many_slots_a_node_has_is_its_operators_wish_unless_the_worker_is_told(stack):
    nodes.set_slots(stack.redis, "wished", 3)
    for state_dir, slots, expected in (("wished", 0, 3), ("told", 2, 2)):
        node = stack.worker(state=state_dir, slots=slots, CLOUDBURST_NODE="wished")
        (found,) = [worker for worker in workers(stack.redis) if worker.pid == node.pid]
        assert found.slots == expected
        node.terminate()
        assert node.wait(20) == 0


def test_without_a_wish_a_node_has_a_slot_for_each_cpu_that_it_may_use(stack):
    first_cpu = {min(os.sched_getaffinity(0))}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, first_cpu)
    try:
        node = stack.worker(state="one-cpu", slots=0)
    finally:
        os.sched_setaffinity(0, before)
    assert [worker.slots for worker in workers(stack.redis) if worker.pid == node.pid] == [1]
    node.terminate()
    assert node.wait(20) == 0


def state(stack, node):
    return next((worker.state for worker in workers(stack.redis) if worker.node == node), None)
