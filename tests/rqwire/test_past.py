"""Jobs whose payload is not ready at a worker stay where they are; those of others are taken past them."""

from __future__ import annotations

import random

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from cloudburst.model import EnsembleSpec
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Claim, Leases, Loss, Outcome
from cloudburst.rqwire.ledger import Ledger
from tests.wait import wait_until

MANY = 1000
"""More than one call looks at."""


def leases(client: redis.Redis, worker: str = "w1", lease_s: float = 30) -> Leases:
    return Leases(client, queue="default", worker=worker, node="node-1", lease_s=lease_s)


def submit(ensembles: Ensembles, payload: str, count: int, **spec: int) -> str:
    ensemble = ensembles.create(EnsembleSpec(name=payload, function="worker.work", payload=payload, **spec))
    ensembles.append(ensemble, "worker.work", 0, [b"{}"] * count)
    ensembles.seal(ensemble)
    return ensemble


def claim(worker: Leases, count: int, *excluded: str) -> list[Claim]:
    return worker.turn(count=count, at_once=count, excluded=excluded).claims


def indices(claims: list[Claim]) -> list[int]:
    return [claim.job_index for claim in claims]


def waiting_ids(client: redis.Redis) -> list[str]:
    return Queue(connection=client).job_ids


def audit(client: redis.Redis) -> tuple[int, int]:
    """Breaches, and ids that are left over in the list."""
    found = Ledger(client).everything()
    assert found.breach_count == 0, found
    return found.breach_count, found.queues[0].left_over


def test_jobs_that_are_excluded_keep_their_places_and_are_claimed_when_they_are_not(client, ensembles):
    slow, quick = submit(ensembles, "slow", 3), submit(ensembles, "quick", 3)
    worker = leases(client)
    before = waiting_ids(client)

    turn = worker.turn(count=2, at_once=2, excluded=["slow"])

    assert [(c.ensemble, c.job_index) for c in turn.claims] == [(quick, 0), (quick, 1)]
    assert turn.for_others >= 3
    assert waiting_ids(client) == [each for each in before if each not in {c.job_id for c in turn.claims}]
    assert [(c.ensemble, c.job_index) for c in claim(worker, 4)] == [
        (slow, 0),
        (slow, 1),
        (slow, 2),
        (quick, 2),
    ]


def test_a_claim_that_goes_back_for_its_payload_costs_no_attempt_and_keeps_its_place(client, ensembles):
    slow = submit(ensembles, "slow", 5)
    worker = leases(client)

    worker.give_back([Loss(each) for each in claim(worker, 3)])

    assert waiting_ids(client) == [f"{slow}-{index}" for index in range(5)]
    assert [(each.job_index, each.attempt) for each in claim(worker, 2)] == [(0, 1), (1, 1)]


def test_behind_many_excluded_jobs_another_ensemble_runs_in_its_order(client, ensembles):
    slow, quick = submit(ensembles, "slow", MANY), submit(ensembles, "quick", 50)
    worker = leases(client)

    taken = [each for _ in range(10) for each in claim(worker, 5, "slow")]

    assert [(each.ensemble, each.job_index) for each in taken] == [(quick, index) for index in range(50)]
    assert claim(worker, 1, "slow") == []
    assert audit(client) == (0, 50)
    worker.finish([Outcome(each, "finished", 1e9, 0.1, value=b"1") for each in taken])
    assert ensembles.status(quick).finished == 50
    assert len(claim(worker, MANY * 2)) == MANY  # and what was left over is dropped
    assert ensembles.status(slow).running == MANY
    assert waiting_ids(client) == []


def test_a_job_that_was_taken_past_others_and_comes_back_waits_in_one_place(client, ensembles):
    submit(ensembles, "slow", MANY)
    quick = submit(ensembles, "quick", 10)
    worker = leases(client)
    taken = claim(worker, 6, "slow")

    worker.give_back([Loss(taken[0]), Loss(taken[1], "killed"), Loss(taken[4])])

    assert waiting_ids(client).count(f"{quick}-0") == 1
    audit(client)
    again = claim(worker, 5, "slow")
    assert [(each.job_index, each.attempt) for each in again] == [(0, 1), (1, 2), (4, 1), (6, 1), (7, 1)]
    worker.give_back([Loss(each) for each in again])
    everything = claim(worker, MANY * 2)
    assert indices(everything[MANY:]) == [0, 1, 4, 6, 7, 8, 9]
    assert waiting_ids(client) == []


def test_a_lost_worker_returns_what_it_took_past_others(client, ensembles):
    submit(ensembles, "slow", MANY)
    submit(ensembles, "quick", 10)
    lost, worker = leases(client, "lost", lease_s=0.05), leases(client)
    claim(lost, 3, "slow")
    lost.reap()

    wait_until(lambda: lost.reap()[0], what="the leases to run out")

    again = worker.turn(count=3, at_once=3, excluded=["slow"]).claims
    assert [(each.job_index, each.care) for each in again] == [(0, 1), (1, 1), (2, 1)]
    audit(client)


def test_failed_jobs_that_were_taken_past_others_are_retried_and_in_the_list_once(client, ensembles):
    submit(ensembles, "slow", MANY)
    quick = submit(ensembles, "quick", 4)
    worker = leases(client)
    taken = claim(worker, 4, "slow")
    worker.finish([Outcome(each, "failed", 1e9, 0.1, error="E", fingerprint="f") for each in taken])

    assert ensembles.retry(quick) == 4

    assert len(waiting_ids(client)) == MANY + 4
    assert indices(claim(worker, 9, "slow")) == [0, 1, 2, 3]
    audit(client)


def test_a_cancelled_ensemble_that_was_taken_past_others_can_be_retried(client, ensembles):
    submit(ensembles, "slow", MANY)
    quick = submit(ensembles, "quick", 6)
    worker = leases(client)
    claim(worker, 3, "slow")

    ensembles.cancel(quick)
    assert len(waiting_ids(client)) == MANY
    assert ensembles.retry(quick, cancelled=True) == 6

    audit(client)
    assert indices(claim(worker, 9, "slow")) == list(range(6))


def test_a_stock_job_is_left_to_others_while_the_current_worker_zip_is_not_ready(client, ensembles):
    job = Queue(connection=client, serializer=JSONSerializer).enqueue("worker.work", {})
    quick = submit(ensembles, "quick", 1)
    worker = leases(client)

    assert [each.ensemble for each in claim(worker, 2, "")] == [quick]
    assert [each.job_id for each in claim(worker, 2)] == [job.id]


def test_a_job_with_its_last_attempt_is_not_passed_by_the_others_of_its_ensemble(client, ensembles):
    submit(ensembles, "slow", MANY)
    submit(ensembles, "quick", 5, max_attempts=2)
    worker = leases(client)
    worker.give_back([Loss(each, "killed") for each in claim(worker, 1, "slow")])

    held = worker.turn(count=5, at_once=5, has_last=True, excluded=["slow"])

    assert held.claims == []
    again = worker.turn(count=5, at_once=2, excluded=["slow"]).claims
    assert [(each.job_index, each.care) for each in again] == [(0, 2), (1, 0)]


def test_open_ensembles_are_those_that_have_jobs_waiting(client, ensembles):
    first, second = submit(ensembles, "one", 2), submit(ensembles, "two", 1)
    worker = leases(client)
    assert worker.open() == [(first, "one"), (second, "two")]

    taken = worker.claim(3)
    assert worker.open() == []
    worker.give_back([Loss(taken[2])])
    worker.finish([Outcome(each, "failed", 1e9, 0.1, error="E", fingerprint="f") for each in taken[:2]])

    assert worker.open() == [(second, "two")]
    assert client.zrange("cb:open:default", 0, -1) == [second.encode()]
    ensembles.retry(first)
    assert worker.open() == [(first, "one"), (second, "two")]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_to_jobs_in_whatever_order_each_is_in_one_place(client, ensembles, seed):
    """Random calls of two workers, each with payloads that are not ready there; then all jobs are run."""
    dice = random.Random(seed)
    workers = [leases(client, "w1"), leases(client, "w2")]
    held: list[list[Claim]] = [[], []]
    mine = [submit(ensembles, payload, 300, retries=1) for payload in ("a", "b", "c", "a")]

    def take(number: int) -> None:
        excluded = dice.sample(["a", "b", "c", ""], dice.randint(0, 3))
        count = dice.choice([1, 2, 20, 100])
        turn = workers[number].turn(count=count, at_once=dice.randint(1, count), excluded=excluded)
        assert not {claim.payload for claim in turn.claims} & set(excluded)
        held[number] += turn.claims

    def end(number: int) -> None:
        dice.shuffle(held[number])
        count = dice.randint(0, len(held[number]))
        outcomes, losses = [], []
        for claim in held[number][:count]:
            match dice.choice(["finished", "finished", "failed", "lost", "back", "back"]):
                case "finished":
                    outcomes.append(Outcome(claim, "finished", 1e9, 0.1, value=b"1"))
                case "failed":
                    outcomes.append(Outcome(claim, "failed", 1e9, 0.1, error="E", fingerprint="f"))
                case "lost":
                    losses.append(Loss(claim, "killed"))
                case "back":
                    losses.append(Loss(claim))
        del held[number][:count]
        workers[number].turn(outcomes=outcomes, losses=losses)

    def die(number: int) -> None:
        workers[1 - number].abandon(f"w{number + 1}")
        held[number].clear()

    def operate(_number: int) -> None:
        ensemble = dice.choice(mine)
        if dice.random() < 0.3:
            ensembles.cancel(ensemble)
            ensembles.retry(ensemble, cancelled=True)
        ensembles.retry(ensemble)

    for _ in range(60):
        act = dice.choices([take, end, die, operate], [10, 8, 1, 1])[0]
        act(dice.randrange(2))
        audit(client)

    for number in range(2):
        workers[number].give_back([Loss(claim) for claim in held[number]])
    while claims := claim(workers[0], 500):
        workers[0].finish([Outcome(each, "finished", 1e9, 0.1, value=b"1") for each in claims])
    for ensemble in mine:
        status = ensembles.status(ensemble)
        assert (status.complete, status.finished + status.failed + status.cancelled) == (True, 300)
    assert waiting_ids(client) == []
    audit(client)
