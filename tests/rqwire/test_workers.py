"""Workers in RQ's lists."""

from __future__ import annotations

from cloudburst.rqwire.workers import Registration, workers


def registration(redis, name: str) -> Registration:
    made = Registration(redis, name=name, queue="default", node="node", slots=1)
    made.heartbeat(busy=0, current_job="")
    return made


def test_a_worker_that_has_expired_is_removed_from_the_lists_and_the_others_stay(redis_server):
    redis = redis_server.client()
    living = registration(redis, "living")
    registration(redis, "expired")
    redis.delete("rq:worker:expired")

    living.forget_expired()

    for listed in ("rq:workers", "rq:workers:default"):
        assert redis.smembers(listed) == {b"rq:worker:living"}
    assert [worker.name for worker in workers(redis)] == ["living"]


def test_of_many_workers_one_looks_for_expired_ones(redis_server):
    redis = redis_server.client()
    many = [registration(redis, f"worker-{number}") for number in range(5)]
    redis.config_resetstat()

    for one in many:
        one.forget_expired()

    assert redis.info("commandstats")["cmdstat_smembers"]["calls"] == 2
