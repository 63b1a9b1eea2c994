"""The lease scheme, script by script, against a real Redis, seen through stock RQ."""

from __future__ import annotations

import pytest
import redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from cloudburst.errors import EnsembleError
from cloudburst.model import EnsembleSpec
from cloudburst.rqwire import ensembles as ensembles_module
from cloudburst.rqwire.ensembles import Ensembles, encode_description
from cloudburst.rqwire.leases import Claim, Leases, Loss, Outcome
from tests.wait import wait_until


def leases(client: redis.Redis, worker: str = "w1", lease_s: float = 30) -> Leases:
    return Leases(client, queue="default", worker=worker, node="node-1", lease_s=lease_s)


def submit(client: redis.Redis, count: int, **spec: int) -> tuple[Ensembles, str]:
    ensembles = Ensembles(client)
    ensemble = ensembles.create(EnsembleSpec(name="e", function="worker.work", payload="abc", **spec))
    descriptions = [encode_description({"seed": i}, i) for i in range(count)]
    ensembles.append(ensemble, "worker.work", 0, descriptions)
    ensembles.seal(ensemble)
    return ensembles, ensemble


def finished(claim: Claim, value: bytes = b"1") -> Outcome:
    return Outcome(claim, "finished", 1e9, 0.5, value=value)


def failed(claim: Claim, fingerprint: str = "f1") -> Outcome:
    return Outcome(
        claim, "failed", 1e9, 0.5, error="E: x", fingerprint=fingerprint, traceback="tb", output=b"out"
    )


def test_a_job_goes_from_append_to_record_and_stock_rq_sees_each_step(client):
    ensembles, ensemble = submit(client, 3)
    queue = Queue(connection=client, serializer=JSONSerializer)
    assert queue.job_ids == [f"{ensemble}-{i}" for i in range(3)]

    worker = leases(client)
    claim = worker.claim(1)[0]

    assert (claim.job_index, claim.attempt, claim.payload) == (0, 1, "abc")
    assert StartedJobRegistry(connection=client).get_job_ids() == [claim.job_id]
    job = Job.fetch(claim.job_id, connection=client, serializer=JSONSerializer)
    assert (job.get_status(), job.args, job.worker_name) == (JobStatus.STARTED, [{"seed": 0}], "w1")

    assert worker.finish([finished(claim, b'{"a": 1}')]) == ["recorded"]

    job.refresh()
    assert (job.get_status(), job.return_value()) == (JobStatus.FINISHED, None)  # the record has the value
    assert FinishedJobRegistry(connection=client).get_job_ids() == [claim.job_id]
    assert StartedJobRegistry(connection=client).count == 0
    status = ensembles.status(ensemble)
    assert (status.total, status.waiting, status.running, status.finished) == (3, 2, 0, 1)
    (record,) = ensembles.all_records(ensemble)
    assert (record.value, record.description, record.node) == ({"a": 1}, {"seed": 0}, "node-1")


def test_a_finish_that_is_repeated_or_stale_records_nothing(client):
    ensembles, ensemble = submit(client, 1)
    first, second = leases(client, "w1", lease_s=0.05), leases(client, "w2")
    claim = first.claim(1)[0]
    first.reap()
    wait_until(lambda: first.reap()[0], what="the lease to run out")
    again = second.claim(1)[0]

    assert first.finish([finished(claim)]) == ["stale"]
    assert first.beat([claim]) == {claim.job_id}
    assert second.finish([finished(again)]) == ["recorded"]
    assert second.finish([finished(again)]) == ["repeated"]

    assert len(list(ensembles.all_records(ensemble))) == 1
    assert ensembles.status(ensemble).finished == 1


def test_a_lost_job_comes_back_to_the_front_and_is_set_aside_after_its_last_attempt(client):
    ensembles, ensemble = submit(client, 2, max_attempts=2)
    worker = leases(client)

    claim = worker.claim(1)[0]
    assert worker.give_back([Loss(claim, "killed by SIGSEGV")]) == ["returned"]
    claim = worker.claim(1)[0]
    assert (claim.job_index, claim.attempt) == (0, 2)
    assert worker.give_back([Loss(claim, "killed by SIGSEGV", output=b"last words")]) == ["aside"]

    (group,) = ensembles.failures(ensemble)
    assert "killed by SIGSEGV (attempt 2 of 2: set aside)" in group.error
    assert group.output == "last words"
    assert FailedJobRegistry(connection=client).get_job_ids() == [claim.job_id]


def test_claims_that_were_not_started_go_back_in_order_and_cost_no_attempt(client):
    _, ensemble = submit(client, 5)
    worker = leases(client)
    claims = worker.claim(3)

    assert worker.give_back([Loss(claim) for claim in claims]) == ["returned"] * 3

    assert Queue(connection=client).job_ids == [f"{ensemble}-{i}" for i in range(5)]
    assert worker.claim(1)[0].attempt == 1


def test_after_a_time_without_redis_leases_are_extended_before_any_is_reaped(client):
    submit(client, 1)
    worker = leases(client, lease_s=0.05)
    worker.claim(1)
    wait_until(lambda: client.zrangebyscore("cb:lease:default", 0, client.time()[0] - 1), what="an old lease")

    assert leases(client, "w2").reap() == ([], [])  # the first reap in a long time
    assert leases(client, "w2").reap() == ([], [])


def test_append_repeated_after_a_lost_reply_adds_nothing(client):
    ensembles = Ensembles(client)
    ensemble = ensembles.create(EnsembleSpec(name="e", function="worker.work", payload=""))
    first = [encode_description({"seed": i}, i) for i in range(4)]

    assert ensembles.append(ensemble, "worker.work", 0, first) == 4
    assert ensembles.append(ensemble, "worker.work", 0, first) == 4
    assert ensembles.append(ensemble, "worker.work", 2, [*first[2:], b'{"seed":4}']) == 5

    assert Queue(connection=client).count == 5


def test_cancel_ends_waiting_and_running_jobs_and_tells_the_worker(client):
    ensembles, ensemble = submit(client, 5)
    worker = leases(client)
    claims = worker.claim(2)
    worker.finish([finished(claims[0])])

    assert ensembles.cancel(ensemble) == 4

    assert worker.beat(claims[1:]) == {claims[1].job_id}
    assert worker.finish([finished(claims[1])]) == ["stale"]
    status = ensembles.status(ensemble)
    assert (status.state, status.complete, status.finished, status.cancelled) == ("cancelled", True, 1, 4)
    assert Queue(connection=client).count == 0


def test_only_ids_of_closed_jobs_leave_the_list_and_the_others_keep_their_order(client, monkeypatch):
    """In slices of seven ids, with jobs of other ensembles before, between and behind."""
    monkeypatch.setattr(ensembles_module, "CHUNK", 7)
    ensembles = Ensembles(client)
    mine, others = (
        ensembles.create(EnsembleSpec(name=name, function="worker.work", payload="")) for name in ("a", "b")
    )
    size = {mine: 0, others: 0}
    expected = []
    runs = [(others, 3), (mine, 20), (others, 9), (mine, 1), (others, 1), (mine, 30), (others, 5)]
    for ensemble, count in runs:
        ensembles.append(ensemble, "worker.work", size[ensemble], [b"{}"] * count)
        if ensemble == others:
            expected += [f"{others}-{size[others] + number}" for number in range(count)]
        size[ensemble] += count

    assert ensembles.cancel(mine) == 51

    assert Queue(connection=client).job_ids == expected


def test_ids_far_behind_other_jobs_are_left_to_be_dropped_at_the_head(client, monkeypatch):
    monkeypatch.setattr(ensembles_module, "WITHDRAW_BEHIND", 10)
    monkeypatch.setattr(ensembles_module, "WITHDRAW_SLICE", 7)
    submit(client, 20)
    ensembles, mine = submit(client, 5)
    submit(client, 20)

    assert ensembles.cancel(mine) == 5

    assert Queue(connection=client).count == 45
    assert len(leases(client).claim(50)) == 40


def test_jobs_of_a_closed_ensemble_are_recorded_when_they_reach_the_head(client):
    ensembles, ensemble = submit(client, 3)
    client.hset(f"cb:ens:{ensemble}", mapping={"state": "failed", "error": "no such package"})

    assert leases(client).claim(2) == []

    assert ensembles.status(ensemble).failed == 3
    assert {record.error for record in ensembles.all_records(ensemble)} == {"no such package"}


def test_retry_withdraws_the_record_and_runs_the_job_again(client):
    ensembles, ensemble = submit(client, 3)
    worker = leases(client)
    claims = worker.claim(3)
    worker.finish([failed(claims[0], "f1"), failed(claims[1], "f2"), finished(claims[2])])
    assert {group.fingerprint: group.count for group in ensembles.failures(ensemble)} == {"f1": 1, "f2": 1}

    assert ensembles.retry(ensemble, fingerprint="f1") == 1

    assert [group.fingerprint for group in ensembles.failures(ensemble)] == ["f2"]
    (again,) = worker.claim(5)
    assert (again.job_index, again.attempt) == (0, 1)
    worker.finish([finished(again)])
    assert sorted(record.index for record in ensembles.all_records(ensemble)) == [0, 1, 2]
    assert (ensembles.status(ensemble).finished, ensembles.status(ensemble).failed) == (2, 1)


def test_an_ensemble_that_was_cancelled_while_it_was_submitted_stays_so(client):
    ensembles = Ensembles(client)
    ensemble = ensembles.create(EnsembleSpec(name="e", function="worker.work", payload=""))
    ensembles.append(ensemble, "worker.work", 0, [encode_description({}, 0)])

    ensembles.cancel(ensemble)
    ensembles.seal(ensemble)

    assert ensembles.status(ensemble).state == "cancelled"
    with pytest.raises(EnsembleError, match="cancelled before it was complete"):
        ensembles.retry(ensemble, cancelled=True)


def test_an_ensemble_that_failed_before_it_was_complete_is_not_retried(client):
    ensembles = Ensembles(client)
    ensemble = ensembles.create(EnsembleSpec(name="e", function="worker.work", payload=""))
    ensembles.append(ensemble, "worker.work", 0, [encode_description({}, 0)])
    ensembles.fail(ensemble, "no such package")

    with pytest.raises(EnsembleError, match="failed before it was complete: submit it again"):
        ensembles.retry(ensemble)


def test_a_failure_with_retries_left_goes_back_to_the_queue(client):
    ensembles, ensemble = submit(client, 1, retries=1)
    worker = leases(client)

    assert worker.finish([failed(worker.claim(1)[0])]) == ["retried"]
    assert worker.finish([failed(worker.claim(1)[0])]) == ["recorded"]

    assert ensembles.status(ensemble).failed == 1


def test_a_worker_in_the_place_of_a_dead_one_returns_its_jobs_at_once(client):
    submit(client, 3)
    leases(client, "dead").claim(2)

    assert len(leases(client, "alive").abandon("dead")) == 2

    assert [claim.job_index for claim in leases(client, "alive").claim(3)] == [0, 1, 2]


def test_a_job_queued_again_by_stock_rq_is_counted_once(client):
    ensembles, ensemble = submit(client, 1)
    worker = leases(client)
    claim = worker.claim(1)[0]
    worker.finish([failed(claim)])

    FailedJobRegistry(connection=client, serializer=JSONSerializer).requeue(claim.job_id)
    worker.finish([finished(worker.claim(1)[0])])

    status = ensembles.status(ensemble)
    assert (status.total, status.finished, status.failed, status.waiting) == (1, 1, 0, 0)
    assert len(list(ensembles.all_records(ensemble))) == 1


def test_stock_clean_up_leaves_running_jobs_alone(client):
    submit(client, 1)
    claim = leases(client).claim(1)[0]

    StartedJobRegistry(connection=client, serializer=JSONSerializer).cleanup(timestamp=4e9)

    job = Job.fetch(claim.job_id, connection=client, serializer=JSONSerializer)
    assert job.get_status() == JobStatus.STARTED


def test_pickled_jobs_of_a_stock_client_get_pickled_return_values(client):
    job = Queue(connection=client).enqueue("worker.work", {"seed": 1})
    worker = leases(client)
    claim = worker.claim(1)[0]

    assert claim.pickled
    worker.finish([finished(claim, b"[1, 2]")])

    assert job.return_value() == [1, 2]


def test_jobs_that_were_held_by_a_worker_that_died_are_not_set_aside_with_the_one_that_killed_it(client):
    ensembles, ensemble = submit(client, 100)
    for attempt in (1, 2):
        doomed = leases(client, f"doomed-{attempt}")
        claims = doomed.turn(count=50, at_once=2).claims
        assert {claim.attempt for claim in claims} == {attempt}
        assert [claim.job_index for claim in claims] == list(range(50 if attempt == 1 else 2))
        assert {claim.care for claim in claims} == {attempt - 1}
        leases(client).abandon(f"doomed-{attempt}")

    last = leases(client, "doomed-3").turn(
        count=50, at_once=2
    )  # its last attempt, and none beside it that has it
    assert [(claim.job_index, claim.care) for claim in last.claims] == [(0, 2), (2, 1)]
    assert last.for_others >= 1
    held = leases(client, "busy").turn(count=50, at_once=1, has_last=True)
    assert [claim.job_index for claim in held.claims] == [3]
    leases(client).abandon("doomed-3")

    status = ensembles.status(ensemble)
    assert (status.failed, status.running, status.waiting) == (1, 1, 98)
    assert [claim.job_index for claim in leases(client).turn(count=50, at_once=1).claims] == [2]


def test_a_job_that_may_run_only_once_is_never_claimed_ahead(client):
    submit(client, 10, max_attempts=1)

    turn = leases(client).turn(count=10, at_once=3)

    assert [claim.job_index for claim in turn.claims] == [0, 1, 2]
    assert turn.left == 7


def test_what_a_claim_took_whose_reply_was_lost_comes_back_at_once_and_costs_no_attempt(client):
    ensembles, ensemble = submit(client, 10)
    worker = leases(client)
    other = leases(client, "other").claim(1)
    assert len(leases(client, "w1").claim(5)) == 5  # as the worker does, which is told nothing
    worker._unknown.append("w1.1")
    worker._claims = 1

    claims = worker.claim(9)

    assert [claim.job_index for claim in claims] == list(range(1, 10))
    assert {claim.attempt for claim in claims} == {1}
    assert ensembles.status(ensemble).running == 10
    assert other[0].job_index == 0
