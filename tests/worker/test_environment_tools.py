"""Tools of a build: stoppable with everything they started, and quoted without noise and secrets."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import psutil
import pytest

from cloudburst.commands.command import Command
from cloudburst.worker.access import pip_variables
from cloudburst.worker.diagnosis import reason
from cloudburst.worker.tools import BuildStopped, Tools, tail
from tests.wait import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def tools() -> Tools:
    return Tools({"PATH": os.environ["PATH"]}, lambda text: None, threading.Event())


def test_output_goes_to_the_log_and_the_exit_code_comes_back(tools: Tools, tmp_path: Path) -> None:
    log = tmp_path / "log"

    codes = [
        tools.run(Command(("sh", "-c", "echo $WHO; echo oops >&2; exit 3"), env={"WHO": name}), log)
        for name in ("one", "two")
    ]

    assert codes == [3, 3]
    assert log.read_text() == "one\noops\ntwo\noops\n"


def test_what_builds_are_given_reaches_them_and_is_masked_in_the_log(tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "CLOUDBURST_BUILD_KEY": "p@ss w0rd",
        "CLOUDBURST_BUILD_SHORT": "on",
    }
    tools = Tools.of(environ, tmp_path)
    log = tmp_path / "log"

    tools.run(Command(("sh", "-c", 'echo "$KEY p%40ss%20w0rd $SHORT"')), log)

    assert log.read_text() == "*** *** on\n"
    assert "p@ss" not in repr(tools)


def test_an_answer_is_kept_apart_from_what_is_said_about_it(tools: Tools, tmp_path: Path) -> None:
    log, answer = tmp_path / "log", tmp_path / "answer"

    tools.run(Command(("sh", "-c", "echo six==1.17.0; echo courtesy >&2")), log, stdout=answer)

    assert (answer.read_text(), log.read_text()) == ("six==1.17.0\n", "courtesy\n")


def test_stopping_kills_what_the_tool_has_started_too(tools: Tools, tmp_path: Path) -> None:
    stopped: list[BuildStopped] = []

    def run() -> None:
        try:
            tools.run(Command(("sh", "-c", "sleep 600 & echo $!; wait")), tmp_path / "log")
        except BuildStopped as error:
            stopped.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    path = tmp_path / "log"
    pid = int(wait_until(lambda: path.exists() and path.read_text().strip(), 10, "the tool's child"))
    tools.stop.set()
    thread.join(10)

    assert stopped
    wait_until(lambda: not running(pid), 5, "the tool's child to be gone")


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_waiting_for_a_lock_is_said_once_and_can_be_stopped(tools: Tools, tmp_path: Path) -> None:
    notes: list[str] = []
    other = Tools({}, notes.append, threading.Event())
    threading.Timer(0.5, other.stop.set).start()

    with (
        tools.exclusively(tmp_path / "x.flock", "this environment"),
        pytest.raises(BuildStopped),
        other.exclusively(tmp_path / "x.flock", "this environment"),
    ):
        pass

    assert notes == ["waiting for another build of this environment"]


def test_a_tail_has_the_last_lines_without_call_stacks_and_secrets(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "".join(f"line {number}\n" for number in range(50_000))
        + "Looking in indexes: https://user:hunter2@example.org/simple\n\n"
        + 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    raise\n    ^^^^^\n'
        + "ERROR: it failed\n"
    )

    lines = tail(log).splitlines()

    assert len(lines) == 30
    assert lines[-3:] == [
        "line 49999",
        "Looking in indexes: https://***@example.org/simple",
        "ERROR: it failed",
    ]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Collecting x\n  error: subprocess-exited-with-error\nERROR: later", "subprocess-exited-with-error"),
        ("all well", ""),
        ("errors: 3", ""),
    ],
)
def test_the_reason_is_the_first_line_that_names_an_error(output: str, expected: str) -> None:
    assert reason(output) == expected


def test_pips_configuration_files_become_variables_and_its_variables_are_left_alone() -> None:
    listed = (
        ":env:.timeout='180'\n"
        "global.index-url='https://example.org/simple'\n"
        "global.extra-index-url='\\nhttps://one.example.org\\nhttps://two.example.org'\n"
        "install.trusted-host='example.org'\n"
        "global.user='true'\n"
        "freeze.timeout='10'\n"
    )

    assert pip_variables(listed) == {
        "PIP_INDEX_URL": "https://example.org/simple",
        "PIP_EXTRA_INDEX_URL": "https://one.example.org https://two.example.org",
        "PIP_TRUSTED_HOST": "example.org",
    }
