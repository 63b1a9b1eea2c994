"""Do real models give in warm executors what they give in a fresh process each?

Each file of benchmarks/models is a model as people write them: generators at the top of the module, files in
the working directory, pools, caches, figures. Each runs 100 jobs through one worker of two slots, in both
isolations, and in a plain loop with a process for each job; the values have to be the same. Their seed is the
same, too: without it there would be nothing to compare.

The environment and all values are kept in ``--cache``. ``--alone`` computes those of the loop: that
takes an hour and more on two CPUs, can be stopped, and goes on where it was. Run it after the first run, by
which the environment is built, and ``--again`` after it. Writes benchmarks/results/models.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import measure
import services
from cloudburst.worker import inside

HERE = Path(__file__).resolve().parent
MODELS = HERE / "models"
SEED = 13
SLOTS = 2
TIMEOUT_S = 180
ISOLATIONS = ("reuse", "fork")
INSIDE = Path(inside.__file__).resolve().parent
FOUND = "found.json"
"""Of the cache: what the jobs of the last run have returned."""

THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA")
"""Prefixes of the variables that tell numeric libraries how many threads they get."""


@dataclass
class Found:
    """What the jobs of one model returned in one way, by index; a text where one failed."""

    model: str
    way: str
    values: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    ms_per_job: float = 0.0

    @property
    def distinct(self) -> int:
        return len({json.dumps(value) for value in self.values.values()})

    def equal_to(self, other: Found) -> tuple[int, int]:
        """How many values are the same, of how many that both have."""
        both = self.values.keys() & other.values.keys()
        return sum(self.values[index] == other.values[index] for index in both), len(both)


class Alone:
    """The plain loop. What it has found is kept, because nothing but the model and its seed can change it."""

    def __init__(self, cache: Path, python: Path) -> None:
        self._cache = cache / "alone"
        self._cache.mkdir(exist_ok=True)
        self._python = python

    def found(self, model: str, jobs: int) -> Found:
        """What is known of it."""
        found = Found(model, "alone")
        durations = []
        for index in range(jobs):
            kept = self._kept(model, index)
            if kept.exists():
                answer = json.loads(kept.read_text())
                durations.append(answer["seconds"])
                if "value" in answer:
                    found.values[index] = answer["value"]
                else:
                    found.errors[index] = answer["error"]
        found.ms_per_job = statistics.mean(durations) * 1000 if durations else 0.0
        return found

    def run(self, model: str, index: int) -> None:
        """One job in a process of its own, unless its value is known."""
        kept = self._kept(model, index)
        if kept.exists():
            return
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            payload = write_payload(Path(directory) / "payload", model, "reuse")
            scratch = Path(directory) / "scratch"
            scratch.mkdir()
            answer, output = Path(directory) / "answer", Path(directory) / "output"
            environ = {
                "PATH": f"{self._python.parent}:{os.environ['PATH']}",
                "HOME": os.environ.get("HOME", "/"),
                "TMPDIR": str(scratch),
                "PYTHONPATH": str(self._stub),
                "MPLBACKEND": "Agg",
                "ANSWER": str(answer),
                **{f"{name}_NUM_THREADS": "1" for name in THREADS},
            }
            argv = [self._python, HERE / "models_alone.py", payload, INSIDE.parent, str(SEED), str(index)]
            began = time.monotonic()
            with output.open("wb") as file:  # not a pipe: what a model leaves behind would hold it open
                done = subprocess.run(argv, env=environ, cwd=scratch, stdout=file, stderr=file, check=False)
            told = {"seconds": time.monotonic() - began}
            if answer.exists():
                told["value"] = json.loads(answer.read_text())
            else:
                told["error"] = f"status {done.returncode}: {output.read_text(errors='replace')[-2000:]}"
        kept.write_text(json.dumps(told))

    def _kept(self, model: str, index: int) -> Path:
        """Named by all that decides the value."""
        files = [MODELS / f"{model}.py", *_data(), INSIDE / "seeds.py", HERE / "models_alone.py"]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files) + str(SEED).encode())
        return self._cache / f"{model}-{digest.hexdigest()[:16]}-{index}.json"

    @cached_property
    def _stub(self) -> Path:
        """A ``cloudburst.results`` that models can import, and that drops what they write."""
        package = self._cache / "stub" / "cloudburst"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        (package / "results.py").write_text("def write(*args, **kwargs):\n    pass\n")
        return package.parent


def _data() -> list[Path]:
    """Files that come with every model."""
    return [MODELS / "model.inp", MODELS / "table.csv"]


def names() -> list[str]:
    """All models there are."""
    return sorted(path.stem for path in MODELS.glob("*.py"))


def write_payload(directory: Path, model: str, isolation: str) -> Path:
    """One model as a payload: all of them have the same environment, and executors of their own."""
    directory.mkdir(parents=True)
    shutil.copy(MODELS / f"{model}.py", directory / "worker.py")
    for path in [*_data(), MODELS / "Pipfile"]:
        shutil.copy(path, directory)
    (directory / "cloudburst.toml").write_text(f'isolation = "{isolation}"\n')
    return directory


class Through:
    """The way through CloudBurst: a small stack, and one worker whose environments are kept."""

    def __init__(self, stack: services.Services, cache: Path) -> None:
        self._stack = stack
        kept = cache / "environments"
        kept.mkdir(exist_ok=True)
        (stack.directory / "worker").mkdir()
        (stack.directory / "worker" / "environments").symlink_to(kept)
        stack.worker(slots=SLOTS)

    def run(self, model: str, isolation: str, jobs: int) -> Found:
        """All jobs of one model, and how long they took beside each other."""
        directory = self._stack.directory / "payloads" / f"{model}-{isolation}"
        payload = write_payload(directory, model, isolation)
        ensemble = self._stack.stack.submit(
            model.replace("_", "-"),
            payload=payload,
            function="worker.work",
            jobs=({"n": index} for index in range(jobs)),
            timeout_s=TIMEOUT_S,
            seed=SEED,
        )
        services.until(lambda: ensemble.status().complete, f"{model} to end", 7200, 0.05)
        ended = time.time()
        found = Found(model, isolation)
        records = list(ensemble.results())
        for record in records:
            if record.state == "finished":
                found.values[record.index] = record.value
            else:
                found.errors[record.index] = record.error
        first = min(record.started_at for record in records)
        found.ms_per_job = (ended - first) * 1000 / jobs
        return found


def interpreter(cache: Path) -> Path:
    """The Python of the environment that the worker has built."""
    pythons = [path for path in cache.glob("environments/*/.venv/bin/python") if path.exists()]
    if not pythons:
        raise SystemExit("the environment is not built yet: run this without --alone first")
    return max(pythons, key=lambda path: path.lstat().st_mtime)


def compute_alone(alone: Alone, models: list[str], jobs: int) -> None:
    """The whole loop, job by job over all models, so that an early end leaves some of each."""
    os.nice(19)
    for index in range(jobs):
        for model in models:
            alone.run(model, index)
        print(f"alone: {index + 1} of {jobs}", file=sys.stderr, flush=True)


HEAD = (
    "model",
    "alone",
    "ms",
    *(f"{w}: {c}" for w in ISOLATIONS for c in ("distinct", "equal", "failed", "ms")),
)


def rows(models: list[str], found: dict[tuple[str, str], Found]) -> Iterator[tuple[str, ...]]:
    """One line for each model."""
    for model in models:
        alone = found[model, "alone"]
        row = [model, str(alone.distinct), f"{alone.ms_per_job:,.0f}"]
        for way in ISOLATIONS:
            one = found.get((model, way), Found(model, way))
            equal, of = one.equal_to(alone)
            row += [str(one.distinct), f"{equal}/{of}", str(len(one.errors)), f"{one.ms_per_job:,.0f}"]
        yield tuple(row)


def show(lines: list[tuple[str, ...]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    for line in lines:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join([line[0].ljust(len(first)), *others]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100, help="of each model in each way (100)")
    parser.add_argument("--only", nargs="+", default=names(), help="models (all)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "cloudburst-models")
    parser.add_argument(
        "--alone", action="store_true", help="compute what is missing of the plain loop, only"
    )
    parser.add_argument(
        "--again", action="store_true", help="compare what the last run wrote, and run nothing"
    )
    options = parser.parse_args()
    options.cache.mkdir(exist_ok=True)
    if options.alone:
        compute_alone(Alone(options.cache, interpreter(options.cache)), options.only, options.jobs)
        return
    found = kept(options) if options.again else through_cloudburst(options)
    alone = Alone(options.cache, interpreter(options.cache))
    found |= {(model, "alone"): alone.found(model, options.jobs) for model in options.only}
    show([HEAD, *rows(options.only, found)])
    document = {
        "name": "models",
        "date": time.strftime("%Y-%m-%d"),
        "machine": measure.machine(),
        "versions": measure.packages("cloudburst") | versions(interpreter(options.cache)),
        "seed": SEED,
        "jobs": options.jobs,
        "table": [HEAD, *rows(options.only, found)],
    }
    values = {"jobs": options.jobs, "found": [asdict(one) for one in found.values()]}
    (options.cache / FOUND).write_text(json.dumps(values))
    measure.RESULTS.mkdir(exist_ok=True)
    (measure.RESULTS / "models.json").write_text(json.dumps(document, indent=1) + "\n")


def through_cloudburst(options: argparse.Namespace) -> dict[tuple[str, str], Found]:
    """All models in both isolations."""
    found = {}
    with services.running() as stack:
        through = Through(stack, options.cache)
        for model in options.only:
            for isolation in ISOLATIONS:
                found[model, isolation] = one = through.run(model, isolation, options.jobs)
                errors = f"  {next(iter(one.errors.values()))[:150]}" if one.errors else ""
                print(
                    f"{model} {isolation}: {one.ms_per_job:,.0f} ms/job{errors}", file=sys.stderr, flush=True
                )
    return found


def kept(options: argparse.Namespace) -> dict[tuple[str, str], Found]:
    """What the last run has found, of as many jobs as it had."""
    document = json.loads((options.cache / FOUND).read_text())
    options.jobs, found = document["jobs"], {}
    for raw in document["found"]:
        for part in ("values", "errors"):
            raw[part] = {int(index): value for index, value in raw[part].items()}
        found[raw["model"], raw["way"]] = Found(**raw)
    options.only = sorted({model for model, _ in found})
    return found


def versions(python: Path) -> dict[str, str]:
    """Versions of the packages in the environment."""
    program = """
import importlib.metadata, json
print(json.dumps({d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}))
"""
    done = subprocess.run([python, "-c", program], check=True, stdout=subprocess.PIPE)
    return dict(sorted(json.loads(done.stdout).items()))


if __name__ == "__main__":
    main()
