"""Versions of a payload, as a client sees them: upgrades, mixes, a worker.zip that is posted in between."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from cloudburst import Stack
from cloudburst.errors import EnsembleError, PayloadError
from cloudburst.model import Endpoints
from tests.integration.conftest import Shell, write_model
from tests.wait import wait_until

pytestmark = pytest.mark.slow

VERSION = """
import time

def work(params):
    time.sleep(params.get("s", 0))
    if params.get("seed") == 1 and {version} == 1:
        raise ValueError("a mistake in version 1")
    return {{"version": {version}}}
"""


@pytest.fixture
def stack(local: Shell) -> Stack:
    return Stack(Endpoints.from_json((local.home / "local" / "endpoints.json").read_text(), "endpoints"))


@pytest.fixture
def version(tmp_path: Path):
    """Payload directories whose function returns their number."""

    def write(number: int) -> Path:
        return write_model(tmp_path / f"v{number}", model_py=VERSION.format(version=number))

    return write


def test_an_upgrade_in_the_middle_is_shown_as_a_mix(local, stack, version, tmp_path):
    jobs = [{"seed": seed, "s": 0.3} for seed in range(20)]
    ensemble = stack.submit("mix", payload=version(1), function="model.work", jobs=jobs)
    wait_until(lambda: ensemble.status().ended >= 4, 60, "some jobs to end")

    left = ensemble.upgrade(version(2))

    assert 0 < left < 20
    ensemble.wait(60)
    frame = ensemble.results().to_frame()
    assert set(frame["version"].dropna()) == {1, 2}
    assert frame["state"][1] == "failed"
    digest = {1: frame["payload"][0], 2: frame["payload"][19]}
    assert (frame["payload"] == frame["version"].map(digest).fillna(digest[1])).all()
    shown = local.cloudburst("results", ensemble.id, "--csv", tmp_path / "mix.csv")
    assert "results of 2 payloads" in shown.stderr
    assert digest[1][:12] in shown.stderr
    assert (tmp_path / "mix.csv").read_text().splitlines()[0].endswith(",payload")
    assert digest[1][:12] in local.cloudburst("status", ensemble.id).stdout
    counts = {ran_on.payload: by_state for ran_on, by_state in ensemble.provenance()}
    assert counts[digest[1]]["failed"] == 1
    assert ensemble.audit().breach_count == 0

    assert ensemble.upgrade(version(3), rerun_failed=True) == 1

    ensemble.wait(60)
    assert ensemble.results().to_frame()["version"][1] == 3
    assert ensemble.failures() == []
    assert ensemble.audit().breach_count == 0


def test_a_payload_without_the_function_is_refused_and_changes_nothing(stack, version, model):
    ensemble = stack.submit("kept", payload=version(1), function="model.work", jobs=[{"seed": 0, "s": 2}] * 4)
    before = ensemble.status().payload

    with pytest.raises(PayloadError, match="model"):
        ensemble.upgrade(model)

    assert ensemble.status().payload == before
    ensemble.wait(60)
    with pytest.raises(EnsembleError, match="all its jobs have ended"):
        ensemble.upgrade(version(2))
    assert ensemble.status().payload == before


def test_an_ensemble_whose_module_does_not_import_goes_on_with_a_payload_that_does(stack, version, tmp_path):
    broken = write_model(
        tmp_path / "broken", model_py="import six_of_one\n\ndef work(params):\n    return 1\n"
    )
    ensemble = stack.submit(
        "mended", payload=broken, function="model.work", jobs=[{"seed": n} for n in range(5)]
    )
    with pytest.raises(EnsembleError, match="six_of_one"):
        ensemble.wait(60)

    assert ensemble.upgrade(version(2)) == 5

    ensemble.wait(60)
    assert {record.value["version"] for record in ensemble.results()} == {2}
    assert ensemble.audit().breach_count == 0


def test_stock_jobs_run_the_version_that_was_posted_last_and_ensembles_their_own(local, stack, version):
    queue = Queue(connection=Redis.from_url(stack.endpoints.redis_url), serializer=JSONSerializer)
    ensemble = stack.submit(
        "own", payload=version(1), function="model.work", jobs=[{"seed": 0, "s": 0.1}] * 20
    )
    found = []
    for number in (2, 3):
        stack.post(version(number))
        job = queue.enqueue("model.work", {"seed": 0})
        wait_until(lambda job=job: job.get_status(refresh=True) == "finished", 60, "the job to finish")
        found.append(job.return_value()["version"])

    assert found == [2, 3]
    ensemble.wait(60)
    assert {record.value["version"] for record in ensemble.results()} == {1}
