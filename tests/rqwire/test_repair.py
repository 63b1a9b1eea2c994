"""Repairs of a ledger: what an older version or somebody by hand has broken is put right, nothing else."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from cloudburst.model import EnsembleSpec
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Claim, Leases, Outcome
from cloudburst.rqwire.ledger import Ledger, repair

JOBS = 40
PROVENANCE = '{"payload":"%s"}' % ("a" * 64)


def leases(client: redis.Redis, worker: str = "w1") -> Leases:
    return Leases(client, queue="default", worker=worker, node="node-1", lease_s=30)


def submit(client: redis.Redis, name: str) -> str:
    ensembles = Ensembles(client)
    ensemble = ensembles.create(EnsembleSpec(name=name, function="worker.work", payload="abc"))
    ensembles.append(ensemble, "worker.work", 0, [b"{}"] * JOBS)
    ensembles.seal(ensemble)
    return ensemble


def outcome(claim: Claim) -> Outcome:
    if claim.job_index % 5 == 1:
        return Outcome(claim, "failed", 1e9, 0.5, error="E", fingerprint=f"f{claim.job_index % 2}")
    return Outcome(claim, "finished", 1e9, 0.5, value=b"1", provenance=PROVENANCE)


def half_done(client: redis.Redis) -> str:
    """Of 40 jobs 16 finished, 4 failed (1, 6, 11, 16), 4 running (20 to 23), 16 waiting; and another."""
    ensemble = submit(client, "e")
    worker = leases(client)
    worker.finish([outcome(claim) for claim in worker.claim(20)])
    worker.claim(4)
    other = submit(client, "other")
    assert other != ensemble
    return ensemble


def run_all(client: redis.Redis) -> None:
    worker = leases(client, "w2")
    worker.reap()  # as the first after a while, it extends all leases
    for job_id in client.zrange("cb:lease:default", 0, -1):
        client.zadd("cb:lease:default", {job_id: 1.0})
    worker.reap()
    while claims := worker.claim(50):
        worker.finish([outcome(claim) for claim in claims])


def state(client: redis.Redis) -> dict[bytes, Any]:
    return {key: client.dump(key) for key in client.scan_iter("*", count=1000)}


def key(ensemble: str, part: str = "") -> str:
    return f"cb:ens:{ensemble}{part}"


def entry_of(client: redis.Redis, ensemble: str, index: int) -> tuple[bytes, dict[bytes, bytes]]:
    job = f"{ensemble}-{index}".encode()
    return next(one for one in client.xrange(key(ensemble, ":results")) if one[1][b"job"] == job)


def died_before_flush(client: redis.Redis, ensemble: str) -> None:
    """What finish.lua left behind that died between its writes: records and hashes, not counted."""
    claims = leases(client, "w3").claim(5)
    for claim in claims:
        entry = client.xadd(
            key(ensemble, ":results"),
            {
                "index": claim.job_index, "job": claim.job_id, "state": "finished", "attempt": 1, "node": "n",
                "started_ms": 1, "duration_ms": 1, "value": "1", "error": "", "fingerprint": "", "data": "",
            },
        )  # fmt: skip
        client.hset(
            f"rq:job:{claim.job_id}",
            mapping={"status": "finished", "cb_final": claim.owner, "cb_entry": entry},
        )


def recorded_twice(client: redis.Redis, ensemble: str) -> None:
    for index in (0, 1):
        client.xadd(key(ensemble, ":results"), entry_of(client, ensemble, index)[1])


def without_record(client: redis.Redis, ensemble: str) -> None:
    for index in (0, 1, 2):
        client.xdel(key(ensemble, ":results"), entry_of(client, ensemble, index)[0])


def recorded_but_goes_on(client: redis.Redis, ensemble: str) -> None:
    client.hset(f"rq:job:{ensemble}-3", "status", "started")
    client.hset(f"rq:job:{ensemble}-4", "status", "queued")
    client.hdel(f"rq:job:{ensemble}-4", "cb_final")


def jobs(ensemble: str, *indices: int) -> list[str]:
    return [f"{ensemble}-{index}" for index in indices]


LEASES = "cb:lease:default"
STOCK = {"status": "queued", "origin": "default", "data": b'["worker.work",null,[{}],{}]'}

BREAKS: dict[str, Callable[[redis.Redis, str], Any]] = {
    "finish died before its flush": died_before_flush,
    "two records": recorded_twice,
    "no record": without_record,
    "recorded, goes on": recorded_but_goes_on,
    "counters deleted": lambda client, ens: client.hdel(key(ens), "finished", "failed", "running"),
    "counters wrong": lambda client, ens: client.hset(key(ens), mapping={"finished": 7, "running": 69}),
    "counters no numbers": lambda client, ens: client.hset(key(ens), mapping={"failed": "x", "running": "-"}),
    "counts of payloads gone": lambda client, ens: client.delete(key(ens, ":ran")),
    "kinds of failures gone": lambda client, ens: client.delete(key(ens, ":failures"), key(ens, ":examples")),
    "kinds of failures wrong": lambda client, ens: client.hset(key(ens, ":failures"), "f1", 99),
    "kinds of failures of another type": lambda client, ens: client.set(key(ens, ":failures"), "x"),
    "example of another kind": lambda client, ens: client.hset(key(ens, ":examples"), "f1", f"{ens}-0"),
    "lease gone": lambda client, ens: client.zrem("cb:lease:default", *jobs(ens, 20, 21)),
    "all leases gone": lambda client, ens: client.delete("cb:lease:default"),
    "lease without job": lambda client, ens: client.zadd(LEASES, dict.fromkeys(jobs(ens, 0, 30), 4e9)),
    "wip gone": lambda client, ens: client.delete("rq:wip:default"),
    "wip left over": lambda client, ens: client.zadd("rq:wip:default", {f"{ens}-0:w1.1": "+inf"}),
    "on no list": lambda client, ens: [client.lrem("rq:queue:default", 0, one) for one in jobs(ens, 30, 31)],
    "no list": lambda client, ens: client.delete("rq:queue:default"),
    "twice on the list": lambda client, ens: client.rpush("rq:queue:default", *jobs(ens, 30, 31)),
    "hash gone": lambda client, ens: client.delete(*(f"rq:job:{one}" for one in jobs(ens, 30, 31))),
    "scheduled nowhere": lambda client, ens: client.hset(f"rq:job:{ens}-30", "status", "scheduled"),
    "stock job on no list": lambda client, ens: client.hset("rq:job:stock", mapping=STOCK),
    "not open": lambda client, ens: client.delete("cb:open:default"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_shown_put_right_and_all_jobs_end_once(client, name):
    ensemble = half_done(client)
    client.sadd("rq:queues", "rq:queue:default")
    assert list(repair(client, write=False)) == []
    BREAKS[name](client, ensemble)
    broken = state(client)

    shown = list(repair(client, write=False))

    assert shown
    assert state(client) == broken
    assert list(repair(client, write=True))
    assert Ledger(client).everything().breach_count == 0, Ledger(client).everything()
    assert list(repair(client, write=False)) == []
    run_all(client)
    ensembles = Ensembles(client)
    for one in ensembles.ids():
        status = ensembles.status(one)
        assert (status.ended, status.running, status.state) == (JOBS, 0, "done")
        assert sorted(record.index for record in ensembles.all_records(one)) == list(range(JOBS))
        assert sum(group.count for group in ensembles.failures(one)) == status.failed
        assert all(group.job_id.startswith(f"{one}-") for group in ensembles.failures(one))
    assert Ledger(client).everything().breach_count == 0


def break_all(client: redis.Redis, ensemble: str) -> None:
    for name in ("finish died before its flush", "two records", "no record", "counters wrong", "wip gone"):
        BREAKS[name](client, ensemble)


@pytest.mark.parametrize("steps", [0, 1, 3, 7, 20])
def test_a_repair_that_was_killed_is_repeated(client, steps):
    ensemble = half_done(client)
    break_all(client, ensemble)

    list(itertools.islice(repair(client, write=True), steps))
    list(repair(client, write=True))

    assert Ledger(client).everything().breach_count == 0
    run_all(client)
    assert Ensembles(client).status(ensemble).ended == JOBS


def test_repairs_of_one_ensemble_while_workers_run_touch_nothing_that_is_right(client, redis_server):
    ensembles = Ensembles(client)
    ensemble = half_done(client)
    for _ in range(10):
        submit(client, "more")
    break_all(client, ensemble)
    errors: list[redis.RedisError] = []

    def work(name: str) -> None:
        try:
            worker = leases(redis_server.client(), name)
            while claims := worker.claim(3):
                worker.finish([outcome(claim) for claim in claims])
        except redis.RedisError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        list(repair(client, write=True))
    for thread in threads:
        thread.join()
    list(repair(client, write=True))
    run_all(client)

    assert errors == []
    assert Ledger(client).everything().breach_count == 0
    for one in ensembles.ids():
        assert ensembles.status(one).ended == JOBS
        assert sorted(record.index for record in ensembles.all_records(one)) == list(range(JOBS))


def test_what_cannot_be_derived_is_named_afterwards(client):
    half_done(client)
    client.hset("rq:job:ghost-1", mapping={**STOCK, "cb_ens": "ghost", "cb_index": 1, "status": "finished"})
    client.sadd("rq:queues", "rq:queue:default")

    assert list(repair(client, write=True)) == []

    (breach,) = Ledger(client).everything().queues[0].breaches
    assert breach.job_id == "ghost-1"


def test_a_ledger_that_is_right_needs_no_repair(client):
    ensemble = half_done(client)
    run_all(client)
    before = state(client)

    assert list(repair(client, write=True)) == []

    changed = {name for name, value in state(client).items() if before.get(name) != value}
    assert changed == set()
    assert client.zscore("cb:open:default", ensemble) is None
