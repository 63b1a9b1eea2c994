"""With Redis' memory full, what was accepted goes on and nothing new is accepted."""

from __future__ import annotations

import pytest
import redis

from cloudburst.model import EnsembleSpec
from cloudburst.rqwire import nodes
from cloudburst.rqwire.builds import Builds, Lease
from cloudburst.rqwire.connection import out_of_memory
from cloudburst.rqwire.ensembles import Ensembles, encode_description
from cloudburst.rqwire.leases import Claim, Leases, Loss, Outcome
from cloudburst.rqwire.ledger import Ledger
from cloudburst.rqwire.workers import Registration, workers
from tests.conftest import RedisServer


def finished(claim: Claim) -> Outcome:
    return Outcome(claim, "finished", 1e9, 0.5, value=b"1")


def failed(claim: Claim) -> Outcome:
    return Outcome(claim, "failed", 1e9, 0.5, error="E", fingerprint="f", traceback="tb", output=b"out")


def test_accepted_jobs_run_and_new_ones_are_refused(redis_server: RedisServer) -> None:
    operator = redis_server.client()
    worker = redis.Redis.from_url(redis_server.url_of("worker"))
    client = Ensembles(redis.Redis.from_url(redis_server.url_of("client")))
    ensemble = client.create(EnsembleSpec("e", "worker.work", "d" * 64))
    client.append(ensemble, "worker.work", 0, [encode_description({}, n) for n in range(9)])
    client.seal(ensemble)
    leases = Leases(worker, queue="default", worker="w1", node="n1", lease_s=30)
    registration = Registration(worker, name="w1", queue="default", node="n1", slots=2)
    operator.config_set("maxmemory", 1)

    with pytest.raises(redis.ResponseError) as refused:
        client.create(EnsembleSpec("more", "worker.work", "d" * 64))
    assert out_of_memory(refused.value)

    registration.heartbeat(busy=1, current_job="")
    assert [one.name for one in workers(operator)] == ["w1"]
    registration.forget_expired()
    leases.reap()
    claims = leases.claim(6)
    assert leases.beat(claims) == set()
    assert leases.finish([finished(claims[0]), failed(claims[1])]) == ["recorded"] * 2
    assert leases.give_back([Loss(claims[2]), Loss(claims[3], "lost its executor")]) == ["returned"] * 2
    assert len(leases.abandon("w1")) == 2
    lease = Builds(worker, "n1", 10).take("an environment")
    assert isinstance(lease, Lease)
    lease.release()
    nodes.set_draining(operator, "n1", True)
    registration.heartbeat(busy=0, current_job="")
    assert registration.draining
    assert client.cancel(ensemble) == 7
    registration.death()
    assert workers(operator) == []

    assert redis_server.refused() == set()
    assert Ledger(operator).everything().breach_count == 0
    status = client.status(ensemble)
    assert (status.finished, status.failed, status.cancelled) == (1, 1, 7)
