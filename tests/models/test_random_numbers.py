"""The random numbers of a job depend on its ensemble's seed and its index, and on nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloudburst.model import JobRecord
from tests.models.conftest import ModelStack

JOBS = 12
DRAWING = """
import os, random
import numpy as np

np.random.seed(42)
random.seed(42)
rng = np.random.default_rng()
drawn_at_the_top = rng.random()
own = random.Random(1)


class Model:
    rng = np.random.RandomState(3)


def work(params):
    from numpy.random import rand  # a name of the global generator
    values = [rng.random(), np.random.normal(), float(rand()), random.random(), own.random()]
    values.append(Model.rng.rand())
    if params.get("fails") and not os.path.exists(params["mark"]):
        open(params["mark"], "w").close()
        raise ValueError("the first time")
    return {"values": values, "seed": int(os.environ["CLOUDBURST_SEED"])}
"""


def values(records: list[JobRecord]) -> list[object]:
    assert [record.error for record in records] == [""] * len(records)
    return [record.value for record in records]


def drawn(models: ModelStack, isolation: str, settings: str = "", **spec: object) -> list[object]:
    """What the jobs of one ensemble drew."""
    digest = models.payload("drawing", DRAWING, isolation, settings=settings)
    return values(models.run("worker.work", *[{"n": n} for n in range(JOBS)], digest=digest, **spec))


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_jobs_draw_the_same_whatever_runs_before_and_beside_them(models: ModelStack, isolation: str):
    first = drawn(models, isolation, seed=7)

    assert drawn(models, isolation, seed=7) == first
    assert drawn(models, isolation, settings="max_jobs_per_executor = 3\n", seed=7) == first
    other = {"reuse": "fork", "fork": "reuse"}[isolation]
    assert drawn(models, other, seed=7) == first

    # No two jobs draw alike, by whatever generator; nor do two ensembles.
    flat = [number for job in first for number in job["values"]]
    assert len(set(flat)) == len(flat)
    assert len({job["seed"] for job in first}) == JOBS
    assert all(0 <= job["seed"] < 2**32 for job in first)
    once, again = drawn(models, isolation), drawn(models, isolation)
    assert not {json.dumps(job) for job in once} & {json.dumps(job) for job in again + first}


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_a_retry_draws_what_the_first_run_drew(models: ModelStack, isolation: str, tmp_path: Path):
    digest = models.payload("drawing", DRAWING, isolation)
    jobs = [{"n": n, "fails": n % 3 == 0, "mark": str(tmp_path / str(n))} for n in range(JOBS)]
    ensemble = models.submit("worker.work", *jobs, digest=digest, seed=7)
    failed = [record.index for record in models.wait(ensemble) if record.state == "failed"]
    assert failed == [n for n in range(JOBS) if n % 3 == 0]

    models.ensembles.retry(ensemble)

    assert values(models.wait(ensemble)) == drawn(models, isolation, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_one_slot_draws_what_two_draw(models: ModelStack, isolation: str):
    two = drawn(models, isolation, seed=7)

    models.serve(slots=1)
    one = drawn(models, isolation, seed=7)

    models.serve(slots=2)
    assert one == two
