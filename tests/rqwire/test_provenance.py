"""Each record says what its job ran on, and the counts by that agree with the records."""

from __future__ import annotations

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from cloudburst.model import EnsembleSpec, Provenance
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Claim, Loss, Outcome
from cloudburst.rqwire.ledger import Ledger

OLD = Provenance("a" * 64, "e" * 64, "3.11.7", "linux x86_64", "0.1.0")
NEW = Provenance("b" * 64, "e" * 64, "3.11.7", "linux x86_64", "0.1.0", "sha256:1")


@pytest.fixture
def ensemble(ensembles) -> str:
    ensemble = ensembles.create(
        EnsembleSpec(name="e", function="worker.work", payload="a" * 64, max_attempts=1)
    )
    ensembles.append(ensemble, "worker.work", 0, [b"{}"] * 6)
    ensembles.seal(ensemble)
    return ensemble


def finished(claim: Claim, ran_on: Provenance | None) -> Outcome:
    return Outcome(claim, "finished", 1e9, 0.5, value=b"1", provenance=ran_on.to_json() if ran_on else "")


def failed(claim: Claim, ran_on: Provenance) -> Outcome:
    return Outcome(claim, "failed", 1e9, 0.5, error="E", fingerprint="f", provenance=ran_on.to_json())


def payloads(ensembles: Ensembles, ensemble: str) -> dict[int, str]:
    return {record.index: record.payload[:1] for record in ensembles.all_records(ensemble)}


def test_records_of_a_mix_say_which_payload_produced_them(client, ensembles, ensemble, worker):
    claims = worker.claim(5)
    worker.finish([finished(claims[0], OLD), finished(claims[1], NEW), failed(claims[2], NEW)])
    worker.finish([finished(claims[3], OLD)])
    worker.give_back([Loss(claims[4], "killed", provenance=NEW.to_json())])
    ensembles.cancel(ensemble)

    assert payloads(ensembles, ensemble) == {0: "a", 1: "b", 2: "b", 3: "a", 4: "b", 5: ""}
    assert ensembles.provenance(ensemble) == [(OLD, {"finished": 2}), (NEW, {"finished": 1, "failed": 2})]
    assert Ledger(client).counters(ensemble) == []


def test_one_reader_learns_what_is_new_while_the_ensemble_runs(ensembles, ensemble, worker):
    claims = worker.claim(2)
    worker.finish([finished(claims[0], OLD)])
    assert payloads(ensembles, ensemble) == {0: "a"}

    worker.finish([finished(claims[1], NEW)])

    assert payloads(ensembles, ensemble) == {0: "a", 1: "b"}


def test_a_record_that_is_withdrawn_is_not_counted_any_more(client, ensembles, ensemble, worker):
    claims = worker.claim(2)
    worker.finish([failed(claims[0], OLD), failed(claims[1], NEW)])

    ensembles.retry(ensemble)

    assert ensembles.provenance(ensemble) == []
    assert Ledger(client).counters(ensemble) == []


def test_records_with_one_payload_do_not_name_it(client, ensembles, ensemble, worker):
    worker.finish([finished(claim, OLD) for claim in worker.claim(3)])

    entries = client.xrange(f"cb:ens:{ensemble}:results")

    assert [entry for entry in entries if b"ran" in entry[1]] == []
    assert client.hlen(f"cb:ens:{ensemble}:provenance") == 1


def test_a_stock_job_names_its_payload_in_its_hash(client, worker):
    job = Queue(connection=client, serializer=JSONSerializer).enqueue("worker.work", {})

    worker.finish([finished(worker.claim(1)[0], NEW)])

    assert client.hget(job.key, "cb_payload") == NEW.payload.encode()


def test_an_audit_finds_counts_that_do_not_agree_with_the_records(client, ensembles, ensemble, worker):
    worker.finish([finished(worker.claim(1)[0], OLD)])
    client.hincrby(f"cb:ens:{ensemble}:ran", "0:finished", 1)

    (breach,) = Ledger(client).counters(ensemble)

    assert "2 records are counted by what they ran on, there are 1" in breach.what
