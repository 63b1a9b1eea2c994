"""What an ensemble says of itself: its state in one word, its seed, its warnings."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from cloudburst.model import EnsembleSpec
from cloudburst.rqwire.ensembles import MOST_WARNINGS
from cloudburst.rqwire.leases import Outcome

SPEC = EnsembleSpec(name="e", function="worker.work", payload="")


def submitted(ensembles, jobs: int, **changes) -> str:
    ensemble = ensembles.create(replace(SPEC, **changes))
    ensembles.append(ensemble, "worker.work", 0, [b"{}"] * jobs)
    ensembles.seal(ensemble)
    return ensemble


def run_all(worker) -> None:
    worker.finish([Outcome(claim, "finished", 1e9, 0.5, value=b"1") for claim in worker.claim(99)])


# State


def test_the_state_of_an_ensemble_is_submitting_running_done(ensembles, worker):
    ensemble = ensembles.create(SPEC)
    states = [ensembles.status(ensemble).state]
    ensembles.append(ensemble, "worker.work", 0, [b"{}"] * 2)
    states.append(ensembles.seal(ensemble)[0])
    states.append(ensembles.status(ensemble).state)
    run_all(worker)
    states.append(ensembles.status(ensemble).state)

    assert states == ["submitting", "running", "running", "done"]


@pytest.mark.parametrize("close", ["cancel", "fail"])
def test_a_complete_ensemble_stays_done_when_it_is_closed(ensembles, worker, close):
    ensemble = submitted(ensembles, 3)
    run_all(worker)

    arguments = ("no such function",) if close == "fail" else ()
    assert getattr(ensembles, close)(ensemble, *arguments) == 0

    status = ensembles.status(ensemble)
    assert (status.state, status.finished, status.error) == ("done", 3, "")


def test_a_cancelled_ensemble_stays_cancelled_when_its_environment_turns_out_broken(ensembles):
    ensemble = submitted(ensembles, 3)
    ensembles.cancel(ensemble)

    ensembles.fail(ensemble, "no such function")

    assert ensembles.status(ensemble).state == "cancelled"


# Seed


def test_a_seed_that_is_given_is_recorded_and_told_with_each_claim(ensembles, worker):
    ensemble = submitted(ensembles, 2, seed=2**63 - 1)

    assert ensembles.status(ensemble).seed == ensembles.spec(ensemble).seed == 2**63 - 1
    assert [claim.seed for claim in worker.claim(2)] == [2**63 - 1] * 2


def test_an_ensemble_without_a_given_seed_has_a_random_one(ensembles):
    ids = [submitted(ensembles, 1) for _ in range(20)]

    found = {ensembles.status(ensemble).seed for ensemble in ids}
    assert len(found) == 20
    assert all(0 <= seed < 2**63 for seed in found)


def test_ensembles_of_an_older_version_and_stock_jobs_have_a_seed_from_their_id(client, ensembles, worker):
    ensemble = submitted(ensembles, 1)
    client.hdel(f"cb:ens:{ensemble}", "seed")
    client.hset("rq:job:stock", mapping={"status": "queued", "origin": "default", "data": b"[]"})
    client.rpush("rq:queue:default", "stock")

    claims = worker.claim(2)

    assert [claim.seed for claim in claims] == [
        int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1 for name in (ensemble, "stock")
    ]
    assert ensembles.status(ensemble).seed == claims[0].seed


# Warnings


def test_a_warning_is_kept_once_and_in_one_line(ensembles):
    ensemble = submitted(ensembles, 1)

    for text in ("points were\noverwritten", "disk is full", "points were\noverwritten", "disk", "", "\n"):
        ensembles.warn(ensemble, text)

    assert ensembles.status(ensemble).warnings == ("points were overwritten", "disk is full", "disk")


def test_no_more_than_ten_warnings_are_kept(ensembles):
    ensemble = submitted(ensembles, 1)

    for number in range(30):
        ensembles.warn(ensemble, f"warning {number} " + "x" * 5000)

    kept = ensembles.status(ensemble).warnings
    assert [text.split()[1] for text in kept] == [str(number) for number in range(MOST_WARNINGS)]
    assert max(map(len, kept)) == 1000


def test_a_warning_about_an_ensemble_that_is_gone_makes_none(client, ensembles):
    ensembles.warn("no-such", "text")

    assert not client.exists("cb:ens:no-such")
