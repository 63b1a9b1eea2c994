"""What one job's keys hold costs that job, and nobody else: each good job has its one record."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from rq.job import Job
from rq.serializers import JSONSerializer

from cloudburst.errors import EnsembleError
from cloudburst.model import EnsembleSpec
from cloudburst.rqwire import encoding
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Claim, Leases, Loss, Outcome
from cloudburst.rqwire.ledger import Ledger

DATA = b'["worker.work",null,[{"seed":1}],{}]'
GOOD = {
    "status": "queued", "origin": "default", "created_at": "2026-11-27T08:00:00.000000Z", "data": DATA,
    "timeout": "180", "result_ttl": "500", "failure_ttl": "1000", "retries_left": "1",
}  # fmt: skip


def leases(client: redis.Redis, worker: str = "w1") -> Leases:
    return Leases(client, queue="default", worker=worker, node="n", lease_s=30)


def submitted(client: redis.Redis, jobs: int) -> list[str]:
    """Two ensembles of so many jobs each."""
    ensembles = Ensembles(client)
    ids = []
    for name in ("a", "b"):
        ensemble = ensembles.create(EnsembleSpec(name, "worker.work", "p", max_attempts=2))
        ensembles.append(ensemble, "worker.work", 0, [b'{"seed":1}'] * jobs)
        ensembles.seal(ensemble)
        ids.append(ensemble)
    return ids


def stock(client: redis.Redis, job_id: bytes | str, fields: dict[Any, Any], *, front: bool = True) -> None:
    key = b"rq:job:" + (job_id if isinstance(job_id, bytes) else job_id.encode())
    if fields:
        client.hset(key, mapping=fields)
    (client.lpush if front else client.rpush)("rq:queue:default", job_id)


def outcome(claim: Claim) -> Outcome:
    """What a worker says of a claim: a malformed one fails, of the others every fifth."""
    if claim.malformed:
        return Outcome(claim, "failed", 1e9, 0.0, error=claim.malformed, fingerprint="malformed")
    if claim.job_index % 5 == 1 or not claim.ensemble:
        return Outcome(claim, "failed", 1e9, 0.1, error="E", fingerprint="f", traceback="T", output=b"out")
    return Outcome(claim, "finished", 1e9, 0.1, value=b"1")


def run_all(client: redis.Redis) -> list[Claim]:
    """Run what waits, as workers do; some is given back, lost or reaped on its way. Returns the claims."""
    one, other = leases(client, "w1"), leases(client, "w2")
    claims = []
    for turn in range(200):
        worker = one if turn % 2 else other
        some = worker.claim(40)
        if not some:
            break
        claims += some
        if turn == 0:
            worker.give_back([Loss(claim, "" if place % 2 else "killed") for place, claim in enumerate(some)])
        elif turn == 1:
            client.zadd("cb:lease:default", {encoding.named(claim.job_id): 1.0 for claim in some})
            other.reap()  # turn 0 has ended with the first reap, which extends leases instead
            one.finish([outcome(claim) for claim in some])
        else:
            worker.beat(some)
            worker.finish([outcome(claim) for claim in some])
        worker.reap()
    return claims


def assert_all_are_recorded_once(client: redis.Redis, ids: list[str], jobs: int) -> None:
    ensembles = Ensembles(client)
    for ensemble in ids:
        status = ensembles.status(ensemble)
        assert (status.ended, status.running, status.waiting, status.state) == (jobs, 0, 0, "done")
        assert sorted(record.index for record in ensembles.all_records(ensemble)) == list(range(jobs))
    audit = Ledger(client).everything()
    assert [account.breach_count for account in audit.ensembles] == [0] * len(ids), audit


# Cases

NO_SECONDS = "should be whole seconds from -1 to 1000000000"
NO_LIST = "should be a JSON list of seconds"


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("result_ttl", "0.5", "result_ttl: should be whole seconds, got '0.5'"),
        ("result_ttl", 10**9 + 1, f"result_ttl: {NO_SECONDS}, got '1000000001'"),
        ("result_ttl", 10**16, "result_ttl: should be whole seconds, got '10000000000000000'"),
        ("failure_ttl", "-0.5", "failure_ttl: should be whole seconds, got '-0.5'"),
        ("timeout", "180.5", "timeout: should be whole seconds, got '180.5'"),
        ("timeout", "1e3", "timeout: should be whole seconds, got '1e3'"),
        ("ttl", "nan", "ttl: should be whole seconds, got 'nan'"),
        ("retries_left", "abc", "retries_left: should be a whole number, got 'abc'"),
        ("repeats_left", b"\xff", r"repeats_left: should be a whole number, got '\xff'"),
        ("retry_intervals", "[", f"retry_intervals: {NO_LIST}, got '['"),
        ("retry_intervals", '["a"]', f"retry_intervals: {NO_LIST}, got '[\"a\"]'"),
        ("repeat_intervals", "[" * 5000, f"repeat_intervals: {NO_LIST}, got '{'[' * 40}'"),
        ("success_callback_timeout", "abc", "success_callback_timeout: should be whole seconds, got 'abc'"),
        ("cb_ens", "floods", "cb_ens: no ensemble 'floods' has this job"),
        ("data", None, "data: is missing"),
    ],
)  # fmt: skip
def test_a_malformed_job_fails_by_name_alone_and_stock_tools_see_it(client, field, value, why):
    ids = submitted(client, 20)
    fields = {**GOOD, field: value}
    stock(client, "odd", {name: text for name, text in fields.items() if text is not None})

    claims = run_all(client)

    assert {claim.malformed for claim in claims if claim.job_id == "odd"} == {f"malformed job: {why}"}
    assert_all_are_recorded_once(client, ids, 20)
    job = Job.fetch("odd", connection=client, serializer=JSONSerializer)
    assert job.get_status() == "failed"
    assert job.latest_result().exc_string.strip() == f"malformed job: {why}"
    assert client.zscore("rq:failed:default", "odd")
    assert client.hget("rq:job:odd", "cb_final")
    assert client.zcard("rq:wip:default") == 0


@pytest.mark.parametrize(
    "change", [{"status": "bogus"}, {"cb_attempt": "x"}, {"cb_index": "x"}, {"cb_past": "x"}]
)
def test_what_only_we_write_counts_as_missing_where_it_is_none(client, change):
    ids = submitted(client, 20)
    stock(client, "odd", {**GOOD, **change})

    claims = run_all(client)

    assert {claim.malformed for claim in claims} == {""}
    assert_all_are_recorded_once(client, ids, 20)
    assert client.hget("rq:job:odd", "status") == b"failed"


@pytest.mark.parametrize(
    ("key", "make", "why"),
    [
        ("rq:job:odd", "rpush", "rq:job:odd: should be a hash, is a list"),
        ("rq:results:odd", "append", "rq:results:odd: should be a stream, is a string"),
        ("rq:job:odd:dependents", "rpush", "rq:job:odd:dependents: should be a set, is a list"),
        ("rq:job::odd:dependencies", "append", "rq:job::odd:dependencies: should be a set, is a string"),
    ],
)
def test_a_key_of_another_type_fails_its_job_alone(client, key, make, why):
    ids = submitted(client, 20)
    stock(client, "odd", GOOD if key != "rq:job:odd" else {})
    getattr(client, make)(key, "x")

    claims = run_all(client)

    assert {claim.malformed for claim in claims if claim.job_id == "odd"} <= {
        f"malformed job: {why}", "malformed job: data: is missing",
    }  # fmt: skip
    assert_all_are_recorded_once(client, ids, 20)
    job = Job.fetch("odd", connection=client, serializer=JSONSerializer)
    assert (job.get_status(), bool(job.latest_result())) == ("failed", True)


@pytest.mark.parametrize("job_id", [b"\xff\xfe", b"x" * 2_000_000, b"a\nb", "ünder".encode()])
def test_an_id_that_stock_tools_could_not_read_fails_alone(client, job_id):
    ids = submitted(client, 20)
    stock(client, job_id, GOOD)

    claims = run_all(client)

    (malformed,) = {claim.malformed for claim in claims if claim.malformed}
    assert malformed.startswith("malformed job: its id ")
    assert_all_are_recorded_once(client, ids, 20)
    assert client.hget(b"rq:job:" + job_id, "status") == b"failed"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda client, key: client.set(f"{key}:failures", "x"),
        lambda client, key: client.rpush(f"{key}:examples", "x"),
        lambda client, key: client.set(f"{key}:ran", "x"),
        lambda client, key: client.sadd(f"{key}:provenance", "x"),
        lambda client, key: client.hset(key, "running", "x"),
        lambda client, key: client.hset(key, "looked", "-x"),
        lambda client, key: client.hset(key, "max_attempts", "1.5"),
        lambda client, key: client.hset(key, "created_at", "nan"),
        lambda client, key: client.hset(f"{key}:ran", "0:finished", "x"),
        lambda client, key: client.hset(f"{key}:failures", "f", "x"),
        lambda client, key: client.xadd(f"{key}:results", {"x": "y"}, id=f"{2**64 - 1}-{2**64 - 1}"),
        lambda client, key: client.rpush(f"{key}:results", "x"),
        lambda client, key: client.set(key, "x"),
        lambda client, key: client.delete(key),
    ],
)  # fmt: skip
def test_spoilt_keys_of_one_ensemble_cost_the_other_nothing(
    client, spoil: Callable[[redis.Redis, str], None]
):
    spoilt, good = submitted(client, 20)
    spoil(client, f"cb:ens:{spoilt}")

    run_all(client)

    ensembles = Ensembles(client)
    assert (ensembles.status(good).state, ensembles.status(good).ended) == ("done", 20)
    assert len(list(ensembles.all_records(good))) == 20
    assert Ledger(client).ensemble(good).breach_count == 0
    assert client.llen("rq:queue:default") == 0
    assert client.zcard("cb:lease:default") == 0


def test_a_job_of_an_ensemble_whose_hash_was_tampered_with_fails_in_its_ensemble(client):
    spoilt, good = submitted(client, 10)
    client.hset(f"rq:job:{spoilt}-3", "timeout", "abc")
    client.hdel(f"rq:job:{spoilt}-4", "cb_ens", "cb_index")

    run_all(client)

    assert_all_are_recorded_once(client, [spoilt, good], 10)
    failed = {
        record.index: record.error for record in Ensembles(client).all_records(spoilt) if record.error != "E"
    }
    assert {index: error for index, error in failed.items() if index in {3, 4}} == {
        3: "malformed job: timeout: should be whole seconds, got 'abc'",
        4: f"malformed job: cb_ens: should be '{spoilt}'",
    }


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, -1.0, 1e300])
def test_no_time_that_a_worker_tells_is_refused(client, number):
    ids = submitted(client, 3)
    worker = leases(client)
    claims = worker.claim(6)

    answers = worker.finish([Outcome(claim, "finished", number, number, value=b"1") for claim in claims])

    assert answers == ["recorded"] * 6
    assert_all_are_recorded_once(client, ids, 3)


def test_an_outcome_that_redis_refuses_stands_alone(client):
    submitted(client, 20)
    worker = leases(client)
    claims = worker.claim(40)
    outcomes = [outcome(claim) for claim in claims]
    outcomes[17] = outcomes[17]._replace(state="none of RQ's")

    turn = worker.turn(count=1, outcomes=outcomes, losses=[])

    assert turn.finished == ["recorded"] * 17 + ["refused"] + ["recorded"] * 22
    assert client.zrange("cb:lease:default", 0, -1) == [claims[17].job_id.encode()]
    assert worker.give_back([Loss(claims[17])]) == ["returned"]


@pytest.mark.parametrize("description", [b'{"a":\n1}', b" " * 600_000])
def test_a_description_that_cannot_be_stored_is_refused_by_its_index(client, description):
    ensembles = Ensembles(client)
    ensemble = ensembles.create(EnsembleSpec("e", "worker.work", ""))

    with pytest.raises(EnsembleError, match=r"^job 1: its description should be one line of at most 524,288"):
        ensembles.append(ensemble, "worker.work", 0, [b"{}", description])

    assert ensembles.status(ensemble).total == 0


def test_texts_of_a_failure_are_cut_where_they_are_received(client):
    ensemble, _ = submitted(client, 1)
    worker = leases(client)
    claim = worker.claim(1)[0]
    long = "x" * 10_000_000

    worker.finish(
        [
            Outcome(
                claim, "failed", 1e9, 0.1, error=long, fingerprint=long, traceback=long, output=long.encode()
            )
        ]
    )

    (group,) = Ensembles(client).failures(ensemble)
    assert (len(group.error), len(group.fingerprint), len(group.output)) == (4096, 4096, 65_536)
    assert 65_000 < len(group.traceback) < 66_000


def test_what_is_no_record_is_left_out(client, caplog):
    ensemble, _ = submitted(client, 10)
    stream = f"cb:ens:{ensemble}:results"
    client.xadd(stream, {b"\xff": b"\xff"})
    client.xadd(stream, {"index": "1" * 5000, "state": "finished"})
    run_all(client)
    client.xadd(stream, {"index": "0", "state": "bogus"})

    ensembles = Ensembles(client)
    records = list(ensembles.all_records(ensemble))

    assert sorted(record.index for record in records) == list(range(10))
    assert [record.getMessage().endswith("is no record: it is left out") for record in caplog.records] == [
        True
    ] * 3
    assert len(list(ensembles.all_records(ensemble))) == 10
    assert len(caplog.records) == 3


# Anything

BYTES = st.one_of(
    st.binary(max_size=40),
    st.integers().map(lambda number: str(number).encode()),
    st.floats().map(lambda number: str(number).encode()),
    st.sampled_from(
        [b"queued", b"started", b"canceled", b"finished", b"scheduled", b"[1,2]", b"null", b"-0", b"a-1"]
    ),
)
FIELDS = st.sampled_from([
    "status", "origin", "created_at", "enqueued_at", "data", "timeout", "result_ttl", "failure_ttl", "ttl",
    "retries_left", "retry_intervals", "repeats_left", "repeat_intervals", "meta", "description", "ended_at",
    "success_callback_name", "success_callback_timeout", "stopped_callback_name", "stopped_callback_timeout",
    "enqueue_at_front", "cb_owner", "cb_attempt", "cb_ens", "cb_index", "cb_final", "cb_entry", "cb_fp",
    "cb_past", "cb_lost", "cb_expires", "worker_name", "allow_dependency_failures",
])  # fmt: skip
KINDS = {
    "string": lambda client, key, value: client.set(key, value),
    "list": lambda client, key, value: client.rpush(key, value),
    "set": lambda client, key, value: client.sadd(key, value),
    "zset": lambda client, key, value: client.zadd(key, {value: 1}),
    "hash": lambda client, key, value: client.hset(key, value, value),
    "stream": lambda client, key, value: client.xadd(key, {value: value}),
}
BESIDE = st.sampled_from(
    ["rq:results:odd", "rq:job:odd:dependents", "rq:job::odd:dependencies", "cb:output:odd"]
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(FIELDS, BYTES, max_size=4),
    removed=st.sets(st.sampled_from(sorted(GOOD)), max_size=2),
    beside=st.dictionaries(BESIDE, st.tuples(st.sampled_from(sorted(KINDS)), BYTES), max_size=2),
    whole=st.none() | st.sampled_from(sorted(KINDS)),
    job_id=st.just(b"odd") | st.binary(min_size=1, max_size=30),
)
def test_whatever_a_job_holds_all_others_are_recorded_once(client, fields, removed, beside, whole, job_id):
    client.flushall()
    ids = submitted(client, 150)
    for key, (kind, value) in beside.items():
        KINDS[kind](client, key, value)
    if whole and whole != "hash":
        KINDS[whole](client, b"rq:job:" + job_id, b"x")
        stock(client, job_id, {})
    else:
        stock(
            client, job_id, {**{name: text for name, text in GOOD.items() if name not in removed}, **fields}
        )

    claims = run_all(client)

    assert_all_are_recorded_once(client, ids, 150)
    assert len(claims) < 600
    assert client.zcard("cb:lease:default") == 0
