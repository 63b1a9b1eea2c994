"""A worker goes on with all other jobs, whatever is wrong with one of them, or with Redis."""

from __future__ import annotations

import os
import signal

from cloudburst import log
from cloudburst.rqwire.leases import Claim, Loss, Outcome
from cloudburst.worker.recorder import Recorder
from cloudburst.worker.removing import remove
from tests.wait import wait_until

ROUNDS = 3000
"""Directories within each other: more than Python can call functions."""


def test_a_job_whose_record_redis_refuses_holds_up_no_other(stack, tmp_path):
    worker = stack.worker(state="refused", slots=2)
    gate = tmp_path / "gate"
    sabotaged = stack.submit("worker.wait_for", {"path": str(gate)})
    wait_until(lambda: stack.ensembles.status(sabotaged).running == 1, 20, "the job to run")
    key = f"rq:job:{sabotaged}-0"
    stack.redis.delete(key)
    stack.redis.set(key, "no hash")
    others = stack.submit("worker.wait_for", *[{"path": str(gate)}] * 20)

    gate.touch()

    assert {record.state for record in stack.wait(others)} == {"finished"}
    assert {record.state for record in stack.run("worker.add", *[{"a": 1, "b": 1}] * 20)} == {"finished"}
    assert worker.poll() is None
    worker.terminate()
    assert worker.wait(30) == 0


def test_a_malformed_job_fails_by_name_and_those_beside_it_run(stack):
    ensemble = stack.submit("worker.add", *[{"a": 1, "b": 1}] * 3)
    stack.redis.hset(f"rq:job:{ensemble}-1", "timeout", "180.5")

    worker = stack.worker(state="malformed")
    records = stack.wait(ensemble)

    assert [record.state for record in records] == ["finished", "failed", "finished"]
    assert "malformed job" in records[1].error
    assert records[1].fingerprint == "malformed"
    worker.terminate()
    assert worker.wait(20) == 0


def test_a_worker_that_finds_redis_unwilling_takes_over_when_it_is_willing(stack, tmp_path):
    first = stack.worker(state="taken", CLOUDBURST_LEASE_S="60")
    gate = tmp_path / "gate"
    ensemble = stack.submit("worker.wait_for", {"path": str(gate)})
    wait_until(lambda: stack.ensembles.status(ensemble).running == 1, 20, "the job to run")
    first.send_signal(signal.SIGKILL)
    first.wait()
    stack.redis.execute_command("ACL SETUSER worker -evalsha -eval")
    try:
        second = stack.start_worker(slots=1, state="taken", CLOUDBURST_LEASE_S="60")
        wait_until(
            lambda: "Redis does not do what it is asked" in stack.log("worker-taken"), 20, "it to wait"
        )
        assert second.poll() is None
    finally:
        stack.redis.execute_command("ACL SETUSER worker +evalsha +eval")
        stack.redis.execute_command("ACL LOG RESET")
    gate.touch()

    (record,) = stack.wait(ensemble)

    assert record.state == "finished"
    assert "died here: returned" in stack.log("worker-taken")
    second.terminate()
    assert second.wait(20) == 0


def test_a_worker_that_is_told_to_stop_before_it_could_take_over_leaves_that_to_the_next(stack, tmp_path):
    state = stack.directory / "left"
    state.mkdir()
    (state / "worker").write_text("somebody-1-abc")
    stack.redis.execute_command("ACL SETUSER worker -evalsha -eval")
    try:
        worker = stack.start_worker(slots=1, state="left")
        wait_until(lambda: "Redis does not do" in stack.log("worker-left"), 20, "it to wait")
        worker.terminate()
        assert worker.wait(20) == 0
    finally:
        stack.redis.execute_command("ACL SETUSER worker +evalsha +eval")
        stack.redis.execute_command("ACL LOG RESET")
    assert (state / "worker").read_text() == "somebody-1-abc"


def test_directories_nested_more_deeply_than_python_can_call_are_removed(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(tmp_path)
    inner = os.open(top, os.O_RDONLY)
    for _ in range(ROUNDS):
        os.mkdir("d", dir_fd=inner)
        deeper = os.open("d", os.O_RDONLY, dir_fd=inner)
        os.close(inner)
        inner = deeper
    os.close(inner)
    (top / "closed").mkdir(mode=0)

    remove(top)

    assert not top.exists()
    assert tmp_path.exists()


def test_what_happens_again_and_again_has_a_line_for_the_first_the_tenth_and_so_on():
    repeats = log.Repeats(most=2)

    said = [repeats.worth_saying("a") for _ in range(1000)]

    assert [times for times in said if times] == [1, 10, 100, 1000]
    assert [repeats.worth_saying(kind) for kind in ("b", "c", "a")] == [1, 1, 1]


def test_jobs_that_fail_alike_have_few_lines_in_the_log(stack):
    worker = stack.worker(state="quiet")

    ensemble = stack.submit("worker.exit", *[{}] * 30)
    stack.wait(ensemble)

    wait_until(lambda: "10 like this so far" in stack.log("worker-quiet"), 10, "the second line")
    worker.terminate()
    assert worker.wait(20) == 0
    assert stack.log("worker-quiet").count(f"{ensemble}-") == 2


def test_an_outcome_that_redis_refuses_becomes_a_plain_failure_and_then_is_let_go():
    claims = [Claim(f"job-{i}", "w.1", 1, 0, "e", i, "", 0.0, b"") for i in range(3)]
    recorder = Recorder(None)
    recorder.ended(Outcome(claims[0], "finished", 1.0, 1.0, value=b"1"))
    recorder.ended(Outcome(claims[1], "finished", 1.0, 1.0, value=b"2"))
    recorder.lost(Loss(claims[2], "its executor died"))

    recorder.told(["recorded", "refused"], ["refused"])

    outcomes, losses = recorder.batch()
    assert losses == []
    assert [outcome.claim for outcome in outcomes] == claims[1:]
    assert {(outcome.state, outcome.fingerprint, outcome.value) for outcome in outcomes} == {
        ("failed", "refused", b"")
    }
    recorder.told(["refused", "recorded"], [])
    assert recorder.empty
