"""What a stack on machines is for: the example runs over its nodes, and whoever looks sees it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from cloudburst import config, names
from cloudburst.model import Endpoints, JobRecord
from tests.swarm.deployed import NAME, REPOSITORY, Deployed
from tests.swarm.process import run
from tests.wait import wait_until

JOBS = 24
EXAMPLE = REPOSITORY / "client/example"
SIMULATION = """
import shutil
from pathlib import Path

GIVEN = Path(__file__).parent / "model.inp"


def simulate(model, params):
    (model.parent / "model.out").write_text(model.read_text() * params["n"])
    return len((model.parent / "model.out").read_text())


def beside(params):
    return simulate(GIVEN, params)


def copied(params):
    return simulate(Path(shutil.copy(GIVEN, "model.inp")), params)
"""


def asked(where: Endpoints, query: str, bucket: str = names.BUCKET) -> list[dict[str, Any]]:
    """The series that InfluxQL gives, through the gateway and as its reader."""
    answer = requests.get(
        f"{where.influx_url}/query",
        params={"db": bucket, "q": query},
        headers={"Authorization": f"Token {where.influx_token}"},
        verify=where.ca_file,
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"][0].get("series", [])
    return found


@pytest.mark.net
def test_the_example_runs_over_both_nodes_and_is_seen(swarm: Deployed, tmp_path: Path) -> None:
    options = ["--stack", NAME, "--jobs", str(JOBS), "--name", "example", "--out", str(tmp_path)]
    run([sys.executable, str(REPOSITORY / "client/run.py"), *options], env=swarm.environ, timeout_s=600)

    ensemble = swarm.stack().ensemble("example")
    records = list(ensemble.results())
    assert [record.state for record in records] == ["finished"] * JOBS
    assert {record.node for record in records} <= {"a", "b"}

    where = config.endpoints(swarm.environ, NAME)
    count = f"SELECT count(index) FROM result WHERE ensemble = '{ensemble.id}'"
    wait_until(lambda: [one["values"][0][1] for one in asked(where, count)] == [JOBS], 60, "all points")
    stack = names.BUCKET_STACK
    nodes = asked(where, "SELECT last(slots) FROM cloudburst_node GROUP BY node", stack)
    assert {series["tags"]["node"] for series in nodes} == {"a", "b"}
    assert asked(where, "SELECT last(waiting) FROM cloudburst_queue", stack)

    # As many jobs as it takes: a node that got the environment later has some, too.
    jobs = ({"seed": seed, "spread": 0.3, "ensemble": "more"} for seed in range(5000))
    more = swarm.stack().submit("more", payload=EXAMPLE, function="worker.work", jobs=jobs)
    wait_until(lambda: {record.node for record in more.results()} == {"a", "b"}, 180, "jobs on both nodes")


def test_a_simulation_that_writes_beside_its_model_is_told_where_to_write(
    swarm: Deployed, tmp_path: Path
) -> None:
    (tmp_path / "worker.py").write_text(SIMULATION)
    (tmp_path / "model.inp").write_text("[TITLE]\n")
    (tmp_path / "Pipfile").write_text("[packages]\n")

    def ended(function: str) -> list[JobRecord]:
        jobs = ({"n": n} for n in range(JOBS))
        ensemble = swarm.stack().submit(function, payload=tmp_path, function=f"worker.{function}", jobs=jobs)
        wait_until(lambda: ensemble.status().complete, 180, f"{function} to end")
        return list(ensemble.results())

    told = ended("beside")
    assert {record.state for record in told} == {"failed"}
    assert all("working directory" in record.error for record in told), told[0].error
    right = {record.index: record.value for record in ended("copied")}
    assert right == {n: n * len("[TITLE]\n") for n in range(JOBS)}


def test_the_queue_is_seen_behind_a_password(swarm: Deployed) -> None:
    where = config.endpoints(swarm.environ, NAME)
    password = swarm.secrets()["queue-dash-password"]
    page = f"{where.queue_dash_url}/"

    assert requests.get(page, verify=where.ca_file, timeout=10).status_code == 401
    shown = requests.get(page, auth=("cloudburst", password), verify=where.ca_file, timeout=10)
    assert shown.status_code == 200
    assert "<title>" in shown.text


def test_status_says_that_all_is_well(swarm: Deployed) -> None:
    said = swarm.run("status")

    assert "worker 2/2" in said
    for name in ("a", "b", "m (master)"):
        assert any(line.startswith(name) and "ready" in line for line in said.splitlines()), said
    assert "wrong" not in said


def test_a_node_gets_the_slots_that_it_is_told(swarm: Deployed) -> None:
    def slots() -> int:
        worker = swarm.workers().get("b")  # it starts again
        return worker.slots if worker else 0

    try:
        swarm.run("scale", "b=3")
        wait_until(lambda: slots() == 3, 60, "three slots")
    finally:
        swarm.run("scale", "b=0")
    wait_until(lambda: slots() == 1, 60, "one slot, for its one CPU")


def test_logs_of_a_service_are_shown(swarm: Deployed) -> None:
    assert "Ready to accept connections" in swarm.run("logs", "queue", "--tail", "500")
    assert {line.partition(" | ")[0] for line in swarm.run("logs", "worker").splitlines()} == {"a", "b"}
    assert {line[:4] for line in swarm.run("logs", "worker", "--node", "b").splitlines()} == {"b | "}


def test_nobody_else_vouches_for_the_stack(swarm: Deployed) -> None:
    where = config.endpoints(swarm.environ, NAME)
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(where.filestore_url, timeout=10)
