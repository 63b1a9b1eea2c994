"""The client alone: it works with few packages, and says which extra has what it lacks."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.cli.shell import Shell, double, last_line
from tests.conftest import RedisServer
from tests.ensemble.parts import endpoints, file_store, payload

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def closure(requirements: list[str]) -> set[str]:
    """Names of what is installed for these, here."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        wanted, extra = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        if name in found and not wanted.extras:
            continue
        found.add(name)
        for text in distribution(name).requires or []:
            waiting += [(Requirement(text), one) for one in (wanted.extras or {""})]
    return found


def modules(names: set[str]) -> set[str]:
    """What can be imported from these distributions."""
    tops = set()
    for name in names:
        tops |= {file.parts[0].removesuffix(".py") for file in distribution(name).files or []}
    return {top for top in tops if top.isidentifier()}


@pytest.fixture
def client(tmp_path: Path, redis_server: RedisServer) -> Shell:
    """The command line where nothing but the client's own dependencies can be imported."""
    with file_store(tmp_path / "files") as url:
        payload(tmp_path / "model")
        shell = Shell(tmp_path, endpoints(redis_server, url), redis_server.client())
        own = closure(PROJECT["dependencies"])
        groups = PROJECT["optional-dependencies"]
        wanted = [
            text
            for group in ("frames", "worker", "stack")
            for text in groups[group]
            if "cloudburst[" not in text
        ]
        others = modules(closure(wanted) - own) - modules(own)
        (tmp_path / "absent").mkdir()
        (tmp_path / "absent" / "sitecustomize.py").write_text(ABSENT.format(names=others))
        shell.environ["PYTHONPATH"] = str(tmp_path / "absent")
        yield shell


def test_the_client_needs_few_packages() -> None:
    assert len(closure(PROJECT["dependencies"])) + 1 <= 15


def test_what_takes_time_is_imported_when_it_is_needed() -> None:
    code = (
        "import sys; from cloudburst import Stack; print({'requests', 'pandas', 'pyarrow'} & {*sys.modules})"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


def test_the_client_submits_watches_and_reads(client: Shell) -> None:
    submitted = client(
        "submit", "floods", "-p", "model", "-f", "worker.work", stdin='{"seed": 1}\n{"seed": 2}\n'
    )
    assert submitted.returncode == 0, submitted.stderr
    with client.worker(double):
        assert client("watch", "floods").returncode == 0

    assert "double" in client("results", "floods").stdout
    assert client("results", "floods", "--csv", "-").stdout.startswith("index,state,seed,double")
    for command in ("status", "show floods", "failures floods", "audit", "payload lock floods", "--help"):
        done = client(*command.split())
        assert "which is not there" not in done.stderr, command
        assert "Traceback" not in done.stderr, command


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("results floods --parquet all.parquet", "frames"),
        ("replay floods-1-0", "worker"),
        ("stack up --local", "stack"),
        ("stack down --local -y", "stack"),
        ("stack status --help", "stack"),
    ],
)
def test_what_the_client_lacks_is_named(client: Shell, command: str, extra: str) -> None:
    client.submitted(1)

    done = client(*command.split())

    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert re.search(
        rf"needs the package \w+, .*: pip install 'cloudburst\[{extra}\]'", last_line(done.stderr)
    )


def test_a_worker_without_its_packages_names_the_extra(client: Shell) -> None:
    command = [sys.executable, "-m", "cloudburst.worker"]

    done = subprocess.run(command, env=client.environ, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert re.fullmatch(
        r"cloudburst worker: a worker needs the package .*cloudburst\[worker\]'\n", done.stderr
    )


def test_help_tells_what_is_not_installed(client: Shell) -> None:
    shown = client("stack", "--help").stdout

    assert re.search(r"up +\(not installed here: cloudburst\[stack\]\)", shown)
    assert re.search(r"import +Make a stack known", shown)


def test_a_frame_without_pandas_names_the_extra(client: Shell) -> None:
    client.submitted(1)
    program = "from cloudburst import Stack; Stack.connect().ensemble('floods').results().to_frame()"

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=client.directory, env=client.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "to_frame() needs the package pandas, which is not there" in done.stderr
    assert done.stderr.endswith("pip install 'cloudburst[frames]'\n")
