"""The ledger: what is broken by hand is named; nothing is while jobs run, are retried and are cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from cloudburst.errors import EnsembleError
from cloudburst.model import Account, EnsembleSpec
from cloudburst.rqwire.ensembles import Ensembles, encode_description
from cloudburst.rqwire.leases import Claim, Leases, Outcome
from cloudburst.rqwire.ledger import Ledger
from cloudburst.rqwire.ledger.seen import NAMED
from tests.ensemble.parts import ScriptedWorker


def leases(client: redis.Redis) -> Leases:
    return Leases(client, queue="default", worker="w1", node="node-1", lease_s=30)


def submit(client: redis.Redis, count: int, name: str = "e", **spec: int) -> tuple[Ensembles, str]:
    ensembles = Ensembles(client)
    ensemble = ensembles.create(EnsembleSpec(name=name, function="worker.work", payload="abc", **spec))
    for first in range(0, count, 500):
        some = [encode_description({"seed": i}, i) for i in range(first, min(first + 500, count))]
        ensembles.append(ensemble, "worker.work", first, some)
    ensembles.seal(ensemble)
    return ensembles, ensemble


def outcome(claim: Claim, state: str = "finished") -> Outcome:
    error = "" if state == "finished" else "E: x"
    return Outcome(claim, state, 1e9, 0.5, value=b"1", error=error, fingerprint="f1")


def half_done(client: redis.Redis) -> str:
    """Ten jobs: 0 and 1 finished, 2 failed, 3 and 4 running, five waiting."""
    _, ensemble = submit(client, 10)
    worker = leases(client)
    claims = worker.claim(5)
    worker.finish([outcome(claims[0]), outcome(claims[1]), outcome(claims[2], "failed")])
    return ensemble


def named(account: Account) -> list[tuple[str, str]]:
    prefix = f"{account.ensemble}-"
    return [(breach.job_id.removeprefix(prefix), breach.what) for breach in account.breaches]


def test_every_job_is_counted_in_its_place(client):
    ensemble = half_done(client)
    client.hset(f"rq:job:{ensemble}-9", "status", "scheduled")
    client.lrem("rq:queue:default", 1, f"{ensemble}-9")
    client.zadd("rq:scheduled:default", {f"{ensemble}-9": 4e9})

    account = Ledger(client).ensemble(ensemble)

    assert named(account) == []
    assert (account.submitted, account.placed) == (10, 10)
    assert (account.finished, account.failed, account.cancelled) == (2, 1, 0)
    assert (account.waiting, account.running, account.scheduled) == (4, 2, 1)
    audit = Ledger(client).everything()
    assert (audit.ensembles, audit.breach_count) == ((account,), 0)
    assert [(queue.waiting, queue.running, queue.scheduled) for queue in audit.queues] == [(4, 2, 1)]


def test_finished_jobs_whose_hashes_are_gone_count_by_their_records(client):
    ensemble = half_done(client)
    client.delete(f"rq:job:{ensemble}-0", f"rq:job:{ensemble}-1")

    account = Ledger(client).ensemble(ensemble)

    assert (named(account), account.finished) == ([], 2)


def _move_to_tail_twice(client: redis.Redis, ensemble: str) -> None:
    client.rpush("rq:queue:default", f"{ensemble}-7")


def _copy_record(client: redis.Redis, ensemble: str) -> None:
    ((_, fields),) = client.xrange(f"cb:ens:{ensemble}:results", count=1)
    client.xadd(f"cb:ens:{ensemble}:results", fields)


def _rename_record(client: redis.Redis, ensemble: str) -> None:
    ((entry, fields),) = client.xrange(f"cb:ens:{ensemble}:results", count=1)
    client.xdel(f"cb:ens:{ensemble}:results", entry)
    client.xadd(f"cb:ens:{ensemble}:results", fields | {b"job": b"another-0"})


BREACHES: dict[str, tuple[Callable[[redis.Redis, str], object], list[tuple[str, str]]]] = {
    "a waiting job's hash": (
        lambda client, ens: client.delete(f"rq:job:{ens}-6"),
        [("6", "is lost: it has no hash and no record")],
    ),
    "a waiting job's place": (
        lambda client, ens: client.lrem("rq:queue:default", 1, f"{ens}-6"),
        [("6", "should wait, but is not in the list of default")],
    ),
    "all places": (
        lambda client, ens: client.delete("rq:queue:default"),
        [(str(index), "should wait, but is not in the list of default") for index in range(5, 10)],
    ),
    "an id twice in the list": (_move_to_tail_twice, [("7", "is in the list of default twice")]),
    "a running job's lease": (
        lambda client, ens: client.zrem("cb:lease:default", f"{ens}-3"),
        [
            ("", "2 jobs are counted as running, there are 1 leases"),
            ("3", "is in rq:wip for w1.1, which has no lease of it"),
            ("3", "should be running, but has no lease"),
        ],
    ),
    "a running job's entry in wip": (
        lambda client, ens: client.zrem("rq:wip:default", f"{ens}-3:w1.1"),
        [("3", "has a lease, but no entry in rq:wip")],
    ),
    "a lease of a waiting job": (
        lambda client, ens: client.zadd("cb:lease:default", {f"{ens}-6": 4e9}),
        [
            ("", "2 jobs are counted as running, there are 3 leases"),
            ("6", "has a lease, but it is waiting"),
        ],
    ),
    "a lease of a job that has ended": (
        lambda client, ens: client.zadd("cb:lease:default", {f"{ens}-0": 4e9}),
        [("", "2 jobs are counted as running, there are 3 leases"), ("0", "has a lease, but it is ended")],
    ),
    "a second entry in wip": (
        lambda client, ens: client.zadd("rq:wip:default", {f"{ens}-3:w0.9": "inf"}),
        [("3", "is in rq:wip for w0.9, which has no lease of it")],
    ),
    "a record twice": (
        _copy_record,
        [("", "3 jobs are counted as ended, there are 4 records"), ("0", "has 2 records: *")],
    ),
    "a record of another job": (
        _rename_record,
        [
            ("", "record * names no job of this ensemble"),
            ("", "2 jobs are counted as finished, 1 records say so"),
            ("0", "has ended, but has no record"),
        ],
    ),
    "a record of a job that runs": (
        lambda client, ens: client.hset(f"rq:job:{ens}-0", "status", "started"),
        [("0", "is recorded, but goes on")],
    ),
    "a record withdrawn": (
        lambda client, ens: client.xtrim(f"cb:ens:{ens}:results", maxlen=2, approximate=False),
        [
            ("", "3 jobs are counted as ended, there are 2 records"),
            ("0", "has ended, but has no record"),
        ],
    ),
    "a counter off by one": (
        lambda client, ens: client.hincrby(f"cb:ens:{ens}", "finished", 1),
        [("", "4 jobs are counted as ended, there are 3 records")],
    ),
    "a failure counted as finished": (
        lambda client, ens: client.hset(f"cb:ens:{ens}", mapping={"finished": 3, "failed": 0}),
        [
            ("", "3 jobs are counted as finished, 2 records say so"),
            ("", "0 jobs are counted as failed, 1 records say so"),
        ],
    ),
    "the counter of running jobs": (
        lambda client, ens: client.hincrby(f"cb:ens:{ens}", "running", -1),
        [("", "1 jobs are counted as running, there are 2 leases")],
    ),
    "a job that ends outside of the scheme": (
        lambda client, ens: client.hset(f"rq:job:{ens}-6", "status", "canceled"),
        [("6", "has ended, but has no record")],
    ),
    "a job that is nowhere scheduled": (
        lambda client, ens: client.hset(f"rq:job:{ens}-6", "status", "scheduled"),
        [("6", "should be scheduled, but is not in rq:scheduled")],
    ),
    "fewer jobs than there are": (
        lambda client, ens: client.hset(f"cb:ens:{ens}", "submitted", 9),
        [("9", "is beyond the 9 jobs submitted")],
    ),
    "more jobs than there are": (
        lambda client, ens: client.hset(f"cb:ens:{ens}", "submitted", 11),
        [("10", "is lost: it has no hash and no record")],
    ),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_named(client, name):
    ensemble = half_done(client)
    break_it, expected = BREACHES[name]
    break_it(client, ensemble)

    one = Ledger(client).ensemble(ensemble)
    (in_all,) = Ledger(client).everything().ensembles

    for account in (one, in_all):
        found = sorted(named(account))
        assert len(found) == account.breach_count == len(expected), found
        for (job, what), (expected_job, text) in zip(found, sorted(expected), strict=True):
            head, star, tail = text.partition("*")
            assert job == expected_job
            assert what.startswith(head), what
            assert what.endswith(tail), what
            assert star or what == text


def test_many_breaches_are_counted_and_the_first_named(client):
    _, ensemble = submit(client, 1500)
    client.delete("rq:queue:default")

    account = Ledger(client).ensemble(ensemble)

    assert (account.breach_count, len(account.breaches)) == (1500, NAMED)
    assert (account.submitted, account.placed) == (1500, 0)


def test_an_ensemble_that_does_not_exist_is_an_error(client):
    with pytest.raises(EnsembleError, match="no ensemble 'nothing'"):
        Ledger(client).ensemble("nothing")


def test_the_counters_are_compared_without_looking_at_jobs(client):
    ensemble = half_done(client)
    assert Ledger(client).counters(ensemble) == []

    client.hincrby(f"cb:ens:{ensemble}", "running", 1)

    (breach,) = Ledger(client).counters(ensemble)
    assert breach.what == "3 jobs are counted as running, there are 2 leases"


def test_stock_jobs_are_audited_with_the_queue(client):
    queue = Queue(connection=client, serializer=JSONSerializer)
    jobs = [queue.enqueue("worker.work", {"seed": seed}) for seed in range(6)]
    worker = leases(client)
    claims = worker.claim(2)
    worker.finish([outcome(claims[0])])
    submit(client, 3)

    (clean,) = Ledger(client).everything().queues
    assert (clean.waiting, clean.running, clean.breaches) == (7, 1, ())

    client.lrem("rq:queue:default", 1, jobs[3].id)
    client.delete(f"rq:job:{jobs[4].id}")
    client.rpush("rq:queue:default", jobs[5].id)
    client.zrem("cb:lease:default", jobs[1].id)
    client.hset("rq:job:gone-abcdef-0", mapping={"status": "queued", "cb_ens": "gone-abcdef", "cb_index": 0})

    (broken,) = Ledger(client).everything().queues
    assert sorted((breach.job_id, breach.what) for breach in broken.breaches) == sorted(
        [
            (jobs[1].id, "is in rq:wip for w1.1, which has no lease of it"),
            (jobs[1].id, "should be running, but has no lease"),
            (jobs[3].id, "should wait, but is not in the list of default"),
            (jobs[4].id, "is in the list of default, but has no hash"),
            (jobs[5].id, "is in the list of default twice"),
            ("gone-abcdef-0", "says that it is a job of an ensemble that has no such job"),
        ]
    )


def test_a_recorded_job_that_a_stock_client_queues_again_is_no_breach(client):
    ensemble = half_done(client)
    FailedJobRegistry(connection=client, serializer=JSONSerializer).requeue(f"{ensemble}-2")

    assert named(Ledger(client).ensemble(ensemble)) == []


def test_jobs_that_a_stock_client_cancels_wait_for_a_worker_to_record_them(client):
    ensemble = half_done(client)
    for index in (3, 7):  # one runs, one waits
        Job.fetch(f"{ensemble}-{index}", connection=client, serializer=JSONSerializer).cancel()

    before = Ledger(client).ensemble(ensemble)
    leases(client).reap()
    after = Ledger(client).ensemble(ensemble)

    assert (named(before), named(after)) == ([], [])
    assert (before.placed, after.placed) == (10, 10)
    assert (before.cancelled, after.cancelled) == (0, 1)


def test_audits_are_clean_while_jobs_run_are_lost_and_come_back(client, redis_server):
    """2,000 short jobs with two workers; a third claims and never finishes, so that leases run out."""
    _, ensemble = submit(client, 2000, retries=1)
    ledger = Ledger(client)
    lazy = Leases(redis_server.client(), queue="default", worker="lazy", node="n", lease_s=0.05)
    stop = threading.Event()

    def lose_jobs() -> None:
        while not stop.is_set():
            lazy.claim(3)
            stop.wait(0.06)
            lazy.reap()

    def odd_fails(params: dict[str, int]) -> int:
        if params["seed"] % 7 == 0:
            raise ValueError("seven")
        return params["seed"]

    thread = threading.Thread(target=lose_jobs)
    ended, audits = 0, 0
    with (
        ScriptedWorker(redis_server.client(), odd_fails, batch=3),
        ScriptedWorker(redis_server.client(), odd_fails, batch=5),
    ):
        thread.start()
        while ended < 2000:
            if ended > 1800:
                stop.set()
            account = ledger.ensemble(ensemble)
            assert named(account) == []
            assert account.placed == account.submitted == 2000
            assert ledger.everything().breach_count == 0
            ended = account.finished + account.failed + account.cancelled
            audits += 1
        stop.set()  # where the last 200 ended at once
        thread.join()
    assert audits > 3


def test_audits_are_clean_while_jobs_are_submitted_retried_and_cancelled(client, redis_server):
    ensembles, first = submit(client, 1500)
    ledger = Ledger(client)
    stop = threading.Event()

    def churn() -> None:
        other = Ensembles(redis_server.client())
        for _ in range(6):
            if stop.is_set():
                return
            other.retry(first)
            _, second = submit(redis_server.client(), 700, name="second")
            other.cancel(second)

    def all_fail(_: object) -> None:
        raise ValueError("again")

    thread = threading.Thread(target=churn)
    with ScriptedWorker(redis_server.client(), all_fail, batch=20):
        thread.start()
        try:
            while thread.is_alive():
                audit = ledger.everything()
                assert [named(account) for account in audit.ensembles if account.breaches] == []
                assert [queue.breaches for queue in audit.queues] == [()]
        finally:
            stop.set()
            thread.join()
    assert ensembles.status(first).total == 1500
