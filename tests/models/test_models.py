"""Models as people write them give in warm executors what they give in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudburst.worker import inside
from tests.models.conftest import MODELS, ModelStack

JOBS = 5
SEED = 13
ALONE = MODELS.parent / "models_alone.py"
NAMES = [  # those whose packages the tests have; benchmarks/models.py runs them all
    "futures",
    "leaves_everything",
    "matplotlib_figures",
    "numpy_generator",
    "numpy_seeded",
    "open_files",
    "pandas_frames",
    "pillow_noise",
    "pool_fork",
    "pool_forkserver",
    "pool_spawn",
    "sqlite_database",
]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: multiprocessing has sockets in TMPDIR, whose names may have 107 bytes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        yield Path(made)


def alone(name: str, index: int, directory: Path) -> object:
    """What a job of that model returns in a process of its own."""
    scratch = directory / f"{name}-{index}"
    payload = directory / f"{name}-payload-{index}"
    stub = directory / "stub" / "cloudburst"
    for made in (scratch, payload, stub):
        made.mkdir(exist_ok=True, parents=True)
    (stub / "results.py").write_text("")
    (stub / "__init__.py").write_text("")
    (payload / "worker.py").write_text((MODELS / f"{name}.py").read_text())
    (payload / "table.csv").write_text((MODELS / "table.csv").read_text())
    answer = scratch.with_suffix(".json")
    places = {"TMPDIR": str(scratch), "PYTHONPATH": str(stub.parent), "ANSWER": str(answer)}
    argv = [sys.executable, ALONE, payload, Path(inside.__file__).parents[1], str(SEED), str(index)]
    with scratch.with_suffix(".output").open("wb") as output:
        subprocess.run(
            argv,
            cwd=scratch,
            env=os.environ | places | {"MPLBACKEND": "Agg"},
            stdout=output,
            stderr=output,
            check=True,
            timeout=120,
        )
    return json.loads(answer.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_model_gives_what_it_gives_in_a_process_of_its_own(models: ModelStack, name: str, directory: Path):
    jobs = [{"n": n} for n in range(JOBS)]
    records = {
        isolation: models.run("worker.work", *jobs, digest=models.model(name, isolation), seed=SEED)
        for isolation in ("reuse", "fork")
    }

    wanted = [alone(name, n, directory) for n in range(JOBS)]
    for isolation, found in records.items():
        assert [r.error or r.value for r in found] == wanted, isolation
