"""A SWMM model, whose solver writes beside the model file: in the job's own directory, or not at all."""

from __future__ import annotations

import pytest

from cloudburst.model import JobRecord
from tests.models.conftest import MODELS, write
from tests.worker.conftest import MiniStack

JOBS = 40
PIPFILE = '[packages]\npyswmm = "*"\n'
BESIDE = """
from pathlib import Path
from pyswmm import Nodes, Output, Simulation
from swmm.toolkit.shared_enum import LinkAttribute

MODEL = Path(__file__).parent / "model.inp"


def work(params):
    with Simulation(str(MODEL)) as simulation:  # writes model.rpt and model.out beside it
        junction = Nodes(simulation)["J1"]
        for _ in simulation:
            junction.generated_inflow(0.1 + params["n"] / 100)
    with Output(str(MODEL.with_suffix(".out"))) as output:
        flows = output.link_series("C3", LinkAttribute.FLOW_RATE).values()
        return {"peak": round(max(flows), 6), "steps": len(flows)}
"""
COPIED = BESIDE.replace(
    'MODEL = Path(__file__).parent / "model.inp"',
    "import shutil\n\nMODEL = Path('model.inp')\nGIVEN = Path(__file__).parent / 'model.inp'",
).replace("def work(params):\n", "def work(params):\n    shutil.copy(GIVEN, MODEL)\n")


def ensemble(stack: MiniStack, name: str, source: str, isolation: str) -> list[JobRecord]:
    files = {
        "Pipfile": PIPFILE,
        "worker.py": source,
        "model.inp": (MODELS / "model.inp").read_text(),
        "cloudburst.toml": f'isolation = "{isolation}"\n',
    }
    directory = stack.directory / f"{name}-{isolation}"
    digest = stack.upload(directory if directory.exists() else write(directory, files))
    jobs = [{"n": n} for n in range(JOBS)]
    return stack.wait(stack.submit("worker.work", *jobs, digest=digest, seed=7), timeout_s=400)


@pytest.fixture(scope="module")
def swmm(tmp_path_factory: pytest.TempPathFactory):
    stack = MiniStack(tmp_path_factory.mktemp("swmm"))
    try:
        stack.start()
        stack.worker(slots=2, state="swmm")
        yield stack
    finally:
        stack.stop()


@pytest.mark.net
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_a_simulation_in_the_jobs_own_directory_gives_the_same_each_time(swmm: MiniStack, isolation: str):
    first = ensemble(swmm, "copied", COPIED, isolation)
    second = ensemble(swmm, "copied", COPIED, isolation)

    assert [record.error for record in first + second] == [""] * 2 * JOBS
    assert [record.value for record in first] == [record.value for record in second]
    assert len({record.value["peak"] for record in first}) > JOBS // 2  # the jobs are different ones


@pytest.mark.net
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_a_simulation_beside_its_model_is_right_or_told_where_to_write(swmm: MiniStack, isolation: str):
    right = ensemble(swmm, "copied", COPIED, isolation)
    for records in (ensemble(swmm, "beside", BESIDE, isolation) for _ in range(2)):
        for record, other in zip(records, right, strict=True):
            if record.state == "finished":
                assert record.value == other.value
            else:
                group = swmm.failure(record.job_id.rpartition("-")[0])
                told = record.error + group.traceback
                assert "working directory" in told, told
