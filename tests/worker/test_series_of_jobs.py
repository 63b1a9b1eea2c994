"""A tag per job: workers with a real Redis and a real InfluxDB 1.6 refuse series beyond the stack's limit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.influx import Influx, running
from tests.worker import payload
from tests.worker.conftest import MiniStack

LIMIT = 1000

MODULE = """
import os
from cloudburst import results

def runs(params):
    for run in range(params["first"], params["first"] + params["count"]):
        results.write("flow", {"m3_s": 1.0}, tags={"run": run, "gauge": "north"}, time=run + 1)
    if not os.path.exists(params.get("needs", "/")):
        raise RuntimeError("after its points")
    return {"first": float(params["first"])}
"""


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    with running(tmp_path_factory.mktemp("influx")) as database:
        yield database


@pytest.fixture(scope="module")
def two_workers(stack: MiniStack, influx: Influx) -> MiniStack:
    for name in ("one", "two"):
        stack.worker(state=name, INFLUX_URL=influx.url, CLOUDBURST_SERIES_LIMIT=str(LIMIT))
    return stack


@pytest.fixture(scope="module")
def digest(two_workers: MiniStack) -> str:
    return two_workers.upload(payload.write(two_workers.directory / "writing", {"worker.py": MODULE}))


def written(influx: Influx, first: int, end: int) -> int:
    """Points of the runs of one test: each run has its own time."""
    rows = influx.rows(f'SELECT count("m3_s") AS "points" FROM "flow" WHERE time > {first} AND time <= {end}')
    return int(rows[0]["points"]) if rows else 0


def test_two_workers_write_200_000_values_of_a_tag(two_workers, influx, digest):
    stack = two_workers
    jobs = [{"first": first, "count": 5000} for first in range(0, 200_000, 5000)]
    ensemble = stack.submit("worker.runs", *jobs, digest=digest)
    beside = stack.submit("worker.runs", {"first": 900_000, "count": LIMIT}, digest=digest)

    records = stack.wait(ensemble)
    (other,) = stack.wait(beside)

    assert {record.state for record in [*records, other]} == {"finished"}
    assert [record.value for record in records] == [{"first": float(job["first"])} for job in jobs]
    assert {record.node for record in records} == {"one", "two"}
    status = stack.ensembles.status(ensemble)
    (warning,) = status.warnings
    assert warning.startswith("its jobs write more than 1,000 series of points")
    assert "the tag run has most values" in warning
    assert stack.ensembles.status(beside).warnings == ()
    assert written(influx, 0, 200_000) == LIMIT
    assert written(influx, 900_000, 1_000_000) == LIMIT
    results = influx.rows(f"SELECT count(\"first\") AS points FROM result WHERE ensemble = '{ensemble}'")
    assert results[0]["points"] == len(jobs)


def test_a_job_that_runs_again_writes_the_series_that_it_had(two_workers, influx, digest, tmp_path):
    stack, needed = two_workers, tmp_path / "needed"
    jobs = [{"first": first, "count": 50, "needs": str(needed)} for first in range(2_000_000, 2_001_000, 50)]
    ensemble = stack.submit("worker.runs", *jobs, digest=digest)
    assert {record.state for record in stack.wait(ensemble)} == {"failed"}
    assert written(influx, 2_000_000, 2_001_000) == LIMIT

    needed.touch()
    assert stack.ensembles.retry(ensemble) == len(jobs)

    assert {record.state for record in stack.wait(ensemble)} == {"finished"}
    assert stack.ensembles.status(ensemble).warnings == ()
