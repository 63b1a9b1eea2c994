"""The documentation says what is there: every command, every setting, every message that it explains."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import cloudburst
from cloudburst import errors, model, names
from cloudburst.ensemble import collecting
from cloudburst.filestore import client
from cloudburst.model import PayloadSettings
from cloudburst.points.parse import parse
from cloudburst.rqwire import ending, jobs
from cloudburst.worker.inside.stub import SITE

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src" / "cloudburst").rglob("*.py"))
VARIABLE = re.compile(r'"((?:CLOUDBURST|REDIS|FILE_HOST|INFLUX)_?[A-Z_]*)"')

NOT_FOR_USERS = {
    "CLOUDBURST_STACK_DIR",  # marks the processes of a local stack
    "CLOUDBURST_",  # prefixes of what is kept from jobs
    "INFLUX_",
    "REDIS_",
    "CLOUDBURST_DASH_HOST",  # queue-dash is started by the stack only
    "CLOUDBURST_DASH_PORT",
    "CLOUDBURST_DASH_PATH",
    "CLOUDBURST_DEPLOYMENT",  # the deployment tells the compose file
    "CLOUDBURST_HTTPS_PORT",
    "CLOUDBURST_QUEUE_PORT",
    "CLOUDBURST_QUEUE_LIMIT",
    "CLOUDBURST_INFLUX_GOMEMLIMIT",
    "CLOUDBURST_INFLUX_QUERY_BYTES",
    "CLOUDBURST_BUILDS",  # a secret of the worker's service
}


def documents() -> str:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n".join(page.read_text() for page in pages)


@pytest.mark.parametrize(("page", "maker"), [("reference", "reference"), ("api", "api")])
def test_a_generated_page_is_what_the_code_says(page: str, maker: str):
    made = subprocess.run(
        [sys.executable, "-c", f"import {page}; print({page}.{maker}(), end='')"],
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert (ROOT / "docs" / f"{page}.md").read_text() == made, "run `make docs`"


def test_every_public_name_and_all_that_methods_return_is_on_the_page_of_the_api():
    page = (ROOT / "docs" / "api.md").read_text()
    waiting = [getattr(cloudburst, name) for name in cloudburst.__all__ if name != "__version__"]
    known = {
        name: value
        for one in (model, collecting, client, jobs, ending, errors)
        for name, value in vars(one).items()
    }
    reached: set[str] = set()
    while waiting:
        found = waiting.pop()
        if found.__name__ in reached:
            continue
        reached.add(found.__name__)
        public = [member for name, member in vars(found).items() if not name.startswith("_")]
        annotations = " ".join(
            str(inspect.signature(one.fget if isinstance(one, property) else one).return_annotation)
            for one in public
            if callable(one) or isinstance(one, property)
        )
        annotations += " ".join(map(str, getattr(found, "__annotations__", {}).values()))
        names = set(re.findall(r"[A-Z]\w+", annotations)) & known.keys()
        waiting += [known[name] for name in names if known[name].__module__.startswith("cloudburst.")]

    assert len(reached) > 20
    assert {
        name for name in reached if not re.search(rf"^###? {name}$|\| `{name}` \|", page, re.MULTILINE)
    } == set()


def test_every_environment_variable_is_documented():
    found = {name for source in SOURCES for name in VARIABLE.findall(source.read_text())}
    used = {name.removesuffix("_FILE") for name in found}  # every secret can also be a file

    text = documents() + (ROOT / "buildstack.sh").read_text()
    missing = {name for name in used - NOT_FOR_USERS if name not in text}
    assert missing == set()


@pytest.mark.parametrize("key", [field.name for field in fields(PayloadSettings)])
def test_every_key_of_cloudburst_toml_is_documented(key):
    assert f"| `{key}` |" in (ROOT / "docs" / "payloads.md").read_text()


@pytest.mark.parametrize("measurement", names.OBSERVED)
def test_what_a_stack_measures_is_documented(measurement):
    rows = (ROOT / "docs" / "observing.md").read_text().splitlines()
    (row,) = [row for row in rows if row.startswith(f"| `{measurement}` |")]

    tags, fields = names.OBSERVED[measurement]
    assert [name for name in (*tags, *fields) if f"`{name}`" not in row] == []


def test_the_time_series_of_two_jobs_do_not_replace_each_other(tmp_path: Path):
    example = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "time-series.md").read_text(), re.DOTALL)[0]
    points = tmp_path / "points"
    stub = (
        "def simulate(params):\n"
        "    return pd.Series(range(48), pd.date_range('2024-01-01', periods=48, freq='h', unit='s'))\n"
    )
    variables = {
        "CLOUDBURST_POINTS": str(points),
        "CLOUDBURST_ENSEMBLE": "floods-1",
        "PYTHONPATH": SITE,  # as in a job
    }
    for index in ("0", "1", "1"):  # the second has run twice
        subprocess.run(
            [sys.executable, "-c", f"{example}\n{stub}\nwork({{}})"],
            env=os.environ | variables | {"CLOUDBURST_INDEX": index},
            check=True,
        )

    lines = [line[1:] for line in points.read_text().splitlines()]
    written = {(point.series, point.time) for point in parse("\n".join(lines), now=0)}
    assert (len(lines), len(written)) == (3 * 48, 2 * 48)


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_committed_lock_names_no_index():
    lock = (ROOT / "client" / "example" / "Pipfile.lock").read_text()

    assert '"sources": []' in lock
    assert "://" not in lock
    assert "[[source]]" not in (ROOT / "client" / "example" / "Pipfile").read_text()


def test_every_feature_of_rq_that_is_said_to_work_is_tested():
    rows = re.findall(r"^\| (.+?) \| yes \|", (ROOT / "docs" / "rq.md").read_text(), re.MULTILINE)
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "contract").glob("*.py"))

    named = {name for row in rows for name in re.findall(r"`(?:\w+\.)?([A-Za-z_]+)", row)}
    assert len(rows) > 15
    assert {name for name in named if not re.search(rf"\b{name}\b", tests)} == set()
