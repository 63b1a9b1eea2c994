"""The documentation says what is there: every command, every setting, every message that it explains."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from cloudburst import names
from cloudburst.model import PayloadSettings

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


def test_the_reference_is_what_the_commands_say():
    made = subprocess.run(
        [sys.executable, "-c", "import reference; print(reference.reference(), end='')"],
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert (ROOT / "docs" / "reference.md").read_text() == made, "run `make docs`"


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
