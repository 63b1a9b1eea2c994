"""One job in the foreground, as the payload's interpreter runs it: on every Python of this machine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cloudburst.worker import inside, interpreters
from cloudburst.worker.inside import foreground
from tests.worker import payload

PYTHONS = [found.path for found in interpreters.installed(os.environ)]

MODULE = """
import functools

def logged(function):
    @functools.wraps(function)
    def call(params):
        return function(params)
    return call

async def wait(params):
    doubled = params["a"] * 2
    return doubled

def fail(params):
    inner = params["a"] + 1
    raise KeyError(inner)
"""


@pytest.fixture
def payload_dir(tmp_path: Path) -> Path:
    return payload.write(tmp_path / "payload", {"more.py": MODULE, "broken.py": "import nothing_such"})


class Run:
    """A run of ``function`` with one description; ``typed`` is what stands on stdin."""

    def __init__(
        self, payload_dir: Path, function: str, description: dict[str, Any], typed: str = "", **order: Any
    ) -> None:
        scratch = payload_dir.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        answer = payload_dir.parent / "answer.json"
        answer.unlink(missing_ok=True)
        python = order.pop("python", PYTHONS[0])
        whole = {
            "payload": str(payload_dir),
            "data": json.dumps([function, None, [description], {}]),
            "seed": 5,
            "index": 3,
            "set_generators": True,
            "debug": False,
            "show_points": False,
            "preload": [],
            "answer": str(answer),
        }
        (payload_dir.parent / "order.json").write_text(json.dumps(whole | order))
        argv = [str(python), inside.START, str(payload_dir.parent / "order.json")]
        done = subprocess.run(
            argv, cwd=scratch, input=typed, capture_output=True, text=True, timeout=60, check=False
        )
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.answer = json.loads(answer.read_text()) if answer.exists() else None


@pytest.mark.parametrize("python", PYTHONS, ids=str)
def test_it_runs_and_is_stepped_through_on_every_python_of_this_machine(payload_dir, python):
    plain = Run(payload_dir, "worker.add", {"a": 1, "b": 2}, python=python)
    stepped = Run(payload_dir, "more.wait", {"a": 4}, "n\np doubled + 100\nc\n", python=python, debug=True)
    failed = Run(payload_dir, "more.fail", {"a": 4}, "c\np inner + 100\nq\n", python=python, debug=True)

    assert plain.answer["value"]["sum"] == 3
    assert 'doubled = params["a"] * 2' in stepped.out
    assert "108" in stepped.out
    assert stepped.answer["value"] == 8
    assert "105" in failed.out
    assert failed.answer["error"] == "KeyError: 5"


def test_points_are_counted_by_measurement_and_shown_on_demand(payload_dir):
    quiet = Run(payload_dir, "worker.points", {"n": 3})
    shown = Run(payload_dir, "worker.points", {"n": 3}, show_points=True)

    assert quiet.answer["points"] == {"level": 3}
    assert quiet.err == ""
    assert shown.err.splitlines()[0] == "point: level,tank=1 value=0.0 1"


@pytest.mark.parametrize(
    ("function", "error", "traceback"),
    [
        ("more.fail", "KeyError: 2", "more.py"),
        ("worker.deep", "ZeroDivisionError: division by zero", "helpers_of_mine.py"),
        ("worker.exit", "SystemExit: the function called sys.exit(3)", "worker.py"),
        ("worker.not_json", "what the function returned is not JSON", ""),
        ("worker.nothing", "module 'worker' has no function 'nothing'", ""),
        ("broken.work", "ModuleNotFoundError: No module named 'nothing_such'", "broken.py"),
        ("os.system", "'os' is not a module of the payload", ""),
    ],
)
def test_failures_are_those_of_the_executor_without_our_frames(payload_dir, function, error, traceback):
    run = Run(payload_dir, function, {"a": 1, "zero": 0})

    assert run.status == 0
    assert run.answer["state"] == "failed"
    assert run.answer["error"].startswith(error)
    assert traceback in run.err
    assert str(Path(inside.START).parent) not in run.err


def test_leaving_the_debugger_leaves_no_answer(payload_dir):
    run = Run(payload_dir, "worker.add", {"a": 1, "b": 2}, "q\n", debug=True)

    assert (run.status, run.answer) == (foreground.LEFT, None)
