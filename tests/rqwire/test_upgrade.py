"""An ensemble goes on with another payload: what has not started runs on it, what has stays as it is."""

from __future__ import annotations

import pytest

from cloudburst.errors import EnsembleError
from cloudburst.model import EnsembleSpec
from cloudburst.rqwire.leases import Claim, Loss, Outcome
from cloudburst.rqwire.ledger import Ledger


@pytest.fixture
def ensemble(ensembles) -> str:
    ensemble = ensembles.create(EnsembleSpec(name="e", function="worker.work", payload="old"))
    ensembles.append(ensemble, "worker.work", 0, [b"{}"] * 6)
    ensembles.seal(ensemble)
    return ensemble


def failed(claim: Claim, fingerprint: str = "f") -> Outcome:
    return Outcome(claim, "failed", 1e9, 0.5, error="E", fingerprint=fingerprint)


def finished(claim: Claim) -> Outcome:
    return Outcome(claim, "finished", 1e9, 0.5, value=b"1")


def test_jobs_that_have_not_started_are_claimed_with_the_new_payload(ensembles, ensemble, worker):
    running = worker.claim(2)

    assert ensembles.upgrade(ensemble, "new") == 4

    assert {claim.payload for claim in running} == {"old"}
    assert worker.finish([finished(running[0])]) == ["recorded"]
    worker.give_back([Loss(running[1], "killed")])  # it runs again, on what is there now
    assert [(claim.job_index, claim.payload) for claim in worker.claim(9)] == [
        (i, "new") for i in range(1, 6)
    ]


def test_failed_jobs_run_again_only_if_that_is_asked_for(client, ensembles, ensemble, worker):
    claims = worker.claim(3)
    worker.finish([failed(claims[0]), failed(claims[1]), finished(claims[2])])

    assert ensembles.upgrade(ensemble, "new") == 3
    assert ensembles.upgrade(ensemble, "newer", rerun_failed=True) == 5

    assert {claim.payload for claim in worker.claim(9)} == {"newer"}
    status = ensembles.status(ensemble)
    assert (status.finished, status.failed, status.running) == (1, 0, 5)
    assert Ledger(client).everything().breach_count == 0


def test_an_ensemble_that_failed_as_a_whole_goes_on_where_it_had_not_started(ensembles, ensemble, worker):
    claims = worker.claim(2)
    worker.finish([failed(claims[0]), failed(claims[1], "ensemble")])
    ensembles.fail(ensemble, "no module named six", payload="old")
    assert ensembles.status(ensemble).state == "failed"

    assert ensembles.upgrade(ensemble, "new") == 5

    status = ensembles.status(ensemble)
    assert (status.state, status.error, status.failed, status.waiting) == ("running", "", 1, 5)
    assert sorted(claim.job_index for claim in worker.claim(9)) == [1, 2, 3, 4, 5]


def test_a_worker_that_finds_the_old_payload_broken_does_not_fail_the_upgraded_ensemble(ensembles, ensemble):
    ensembles.upgrade(ensemble, "new")

    assert ensembles.fail(ensemble, "broken", payload="old") == 0
    assert ensembles.status(ensemble).state == "running"
    assert ensembles.fail(ensemble, "broken", payload="new") == 6


def test_an_ensemble_whose_jobs_have_all_ended_is_not_upgraded_unless_failed_ones_run_again(
    ensembles, ensemble, worker
):
    claims = worker.claim(6)
    worker.finish([failed(claims[0]), *map(finished, claims[1:])])

    with pytest.raises(EnsembleError, match=r"all its jobs have ended \(1 of them failed\).*--rerun-failed"):
        ensembles.upgrade(ensemble, "new")
    assert ensembles.status(ensemble).payload == "old"

    assert ensembles.upgrade(ensemble, "new", rerun_failed=True) == 1
    worker.finish([finished(claim) for claim in worker.claim(9)])
    with pytest.raises(EnsembleError, match="all its jobs have ended"):
        ensembles.upgrade(ensemble, "newer", rerun_failed=True)


def test_what_was_cancelled_or_never_complete_is_not_upgraded(ensembles, ensemble):
    ensembles.cancel(ensemble)
    with pytest.raises(EnsembleError, match="was cancelled"):
        ensembles.upgrade(ensemble, "new")

    partial = ensembles.create(EnsembleSpec(name="e", function="worker.work", payload="old"))
    ensembles.append(partial, "worker.work", 0, [b"{}"])
    ensembles.fail(partial, "broken")
    with pytest.raises(EnsembleError, match="failed before it was complete"):
        ensembles.upgrade(partial, "new")
    with pytest.raises(EnsembleError, match="no ensemble 'gone'"):
        ensembles.upgrade("gone", "new")
