"""Points of jobs in a whole worker: many of them, and those that the database does not want."""

from __future__ import annotations

import json
import urllib.request

import psutil
import pytest

from tests.wait import wait_until
from tests.worker import payload
from tests.worker.conftest import TOKEN

MODULE = """
import os
from cloudburst import results

def peak(params):
    return {"peak": float(params["n"]), "other": 1.0}

def level(params):
    value = "high" if params["n"] == params.get("bad") else float(params["n"])
    results.write("level", {"value": value}, tags={"job": str(params["n"])}, time=params["n"] + 1)
    return params["n"]

def many(params):
    for i in range(params["count"]):
        results.write("flow", {"value": i}, tags={"pipe": str(i % 10)}, time=i + 1)
"""


@pytest.fixture(scope="module")
def stack(stack):
    stack.process = stack.worker(slots=2)
    return stack


@pytest.fixture(scope="module")
def digest(stack):
    return stack.upload(payload.write(stack.directory / "writing", {"worker.py": MODULE}))


def write(stack, lines: str) -> None:
    """As a job may, with a client of its own."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{stack.points_port}/api/v2/write?org=cloudburst&bucket=cloudburst",
        data=lines.encode(),
        headers={"Authorization": f"Token {TOKEN}"},
    )
    urllib.request.urlopen(request).close()


def test_returned_numbers_that_the_database_does_not_want_cost_no_job_its_value(stack, digest):
    write(stack, 'result,ensemble=e-1 peak="high" 1\n')

    ensemble = stack.submit("worker.peak", *({"n": n} for n in range(50)), digest=digest)
    records = stack.wait(ensemble)

    assert [record.value for record in records] == [{"peak": float(n), "other": 1.0} for n in range(50)]
    assert {record.state for record in records} == {"finished"}
    (warning,) = stack.ensembles.status(ensemble).warnings
    assert warning.startswith("returned numbers are missing in the measurement result: ")
    assert "peak" in warning
    assert "string" in warning


def test_points_that_the_database_refuses_cost_the_job_that_wrote_them_its_record_and_no_other(stack, digest):
    write(stack, "level,job=other value=1 1\n")

    ensemble = stack.submit("worker.level", *({"n": n, "bad": 17} for n in range(40)), digest=digest)
    records = stack.wait(ensemble)

    assert [record.index for record in records if record.state != "finished"] == [17]
    assert "already exists as type float" in records[17].error
    assert records[17].fingerprint == "points"
    written = {json.loads(point)["tags"]["job"] for point in stack.points("level")}
    assert written == {"other", *(str(n) for n in range(40) if n != 17)}


def test_a_job_that_writes_many_points_fills_no_memory_and_keeps_no_other_waiting(stack, digest):
    stack.wait(stack.submit("worker.many", {"count": 1000}, digest=digest))
    worker = psutil.Process(stack.process.pid)
    before, most = worker.memory_info().rss, 0
    ensemble = stack.submit("worker.many", {"count": 300_000}, digest=digest)
    beside = stack.submit("worker.level", *({"n": n} for n in range(5)), digest=digest)

    assert {record.state for record in stack.wait(beside)} == {"finished"}
    while not stack.ensembles.status(ensemble).complete:
        most = max(most, worker.memory_info().rss)
    (record,) = stack.wait(ensemble)

    assert record.state == "finished"
    wait_until(lambda: len(stack.points("flow")) == 300_000, 60, "points that went to the spool")
    assert most - before < 48 << 20
