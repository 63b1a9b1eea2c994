"""The jobs that workers hold."""

from __future__ import annotations

import time

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from cloudburst.rqwire.held import held
from cloudburst.rqwire.leases import Leases, Loss


def test_jobs_are_held_from_their_claim_until_they_go_back(client: redis.Redis, worker: Leases) -> None:
    queue = Queue(connection=client, serializer=JSONSerializer)
    first, second = [queue.enqueue("worker.work", {}).id for _ in range(2)]
    assert held(client) == []

    claims = worker.claim(2)

    assert {(job.job_id, job.worker) for job in held(client)} == {(first, "w1"), (second, "w1")}
    assert held(client)[0].since == pytest.approx(time.time(), abs=5)

    worker.give_back([Loss(claims[0])])

    assert [job.job_id for job in held(client)] == [second]
