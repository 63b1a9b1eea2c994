"""watch: on a terminal, in a pipe, and interrupted, as real processes."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

from rich.console import Console

from cloudburst.ensemble.progress import Lines
from cloudburst.model import EnsembleStatus
from cloudburst.rqwire.ensembles import Ensembles
from tests.cli.shell import double, last_line, odd_fails
from tests.wait import wait_until

STATUS = EnsembleStatus(
    id="floods-1", name="floods", state="running", payload="", function="worker.work", total=20_000,
    waiting=0, running=0, finished=0, failed=0, cancelled=0, created_at=0.0,
)  # fmt: skip


def test_watch_exits_with_0_when_all_finished(shell):
    ensemble = shell.submitted()
    with shell.worker(double):
        done = shell("watch", "floods")

    assert (done.returncode, done.stdout) == (0, "")
    assert last_line(done.stderr) == f"{ensemble.id}: 4 of 4 done"


def test_watch_exits_with_1_when_some_failed_and_sums_them_up(shell):
    ensemble = shell.submitted()
    with shell.worker(odd_fails):
        done = shell("watch", ensemble.id)

    assert (done.returncode, done.stdout) == (1, "")
    assert "2 of 4 jobs failed:\n      2 × ValueError: seed " in done.stderr
    assert f"`cloudburst failures {ensemble.id}`" in done.stderr


def test_watch_exits_with_1_when_jobs_were_cancelled(shell):
    shell.submitted()
    cancelled = shell("cancel", "floods")
    done = shell("watch", "floods")

    assert (cancelled.returncode, cancelled.stdout) == (0, "4\n")
    assert done.returncode == 1
    assert "4 of 4 done, 4 cancelled" in done.stderr


def test_watch_shows_why_no_job_can_run(shell):
    ensemble = shell.submitted()
    Ensembles(shell.redis).fail(ensemble.id, "the environment cannot be built\npip: no nympy")

    done = shell("watch", "floods")

    assert done.returncode == 8
    assert done.stderr.endswith("no job of it can run: the environment cannot be built\npip: no nympy\n")
    assert shell("status", "floods").stdout.count("pip: no nympy") == 1


def test_watch_without_a_terminal_writes_few_lines_and_the_workers_notes(shell):
    ensemble = shell.submitted(400)
    Ensembles(shell.redis).note(ensemble.id, "node-1: installing the environment")
    process = shell.start("watch", "floods")
    lines: list[str] = []
    reading = threading.Thread(target=lambda: lines.extend(process.stderr))
    reading.start()
    wait_until(lambda: any("installing the environment" in line for line in lines), 20, "the note")
    Ensembles(shell.redis).note(ensemble.id, "")

    with shell.worker(lambda params: time.sleep(0.001)):
        assert process.wait(30) == 0
    reading.join(10)

    assert len(lines) < 6
    assert lines[-1] == f"{ensemble.id}: 400 of 400 done\n"


def test_a_log_of_hours_stays_short():
    now = 0.0
    out = io.StringIO()
    lines = Lines(Console(file=out, width=200), clock=lambda: now)

    # when: 20,000 jobs of a second each are watched, four looks a second
    for second in range(20_000):
        status = replace(STATUS, finished=second, waiting=20_000 - second)
        for quarter in range(4):
            now = second + quarter / 4
            lines.show(status, f"{second:,} of 20,000 done")
    lines.show(replace(STATUS, state="done", finished=20_000), "20,000 of 20,000 done")

    # then
    written = out.getvalue().splitlines()
    assert 100 <= len(written) <= 150
    assert written[-1] == "floods-1: 20,000 of 20,000 done"


def test_a_log_tells_now_and_then_that_an_ensemble_goes_on_slowly():
    now = 0.0
    out = io.StringIO()
    lines = Lines(Console(file=out, width=200), clock=lambda: now)

    for minute in range(180):
        now = 60.0 * minute
        lines.show(replace(STATUS, finished=minute), f"{minute} of 20,000 done")

    assert 10 + 17 <= len(out.getvalue().splitlines()) <= 30


def test_watch_on_a_terminal_draws_a_bar_in_its_place(shell):
    ensemble = shell.submitted(300)

    with shell.on_terminal("watch", "floods") as terminal:
        wait_until(lambda: "0 of 300 done" in terminal.text, 30, "the bar")
        with shell.worker(lambda params: time.sleep(0.005)):
            assert terminal.exit_code() == 0

    assert "━" in terminal.text
    assert ensemble.id in terminal.text
    assert re.search(r"\d+ of 300 done.*, .*/s, about \d+ s left", terminal.text)
    assert "300 of 300 done" in terminal.text
    assert "\x1b[2K" in terminal.text  # a line is erased, and drawn again


def test_watch_can_be_interrupted_and_taken_up_again(shell):
    ensemble = shell.submitted()
    process = shell.start("watch", "floods")
    first = process.stderr.readline()

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert first == f"{ensemble.id}: 0 of 4 done\n"
    assert (process.returncode, out) == (130, "")
    assert f"{ensemble.id} goes on; see it again with: cloudburst watch {ensemble.id}" in err
    assert "Traceback" not in err
    with shell.worker(double):
        assert shell("watch", "floods").returncode == 0


def test_a_notebook_shows_one_text_that_changes(shell):
    """As a kernel runs it: with a stand-in for IPython, which tells what was displayed and what updated."""
    ensemble = shell.submitted(40)
    Ensembles(shell.redis).note(ensemble.id, "installing <numpy>")
    (shell.directory / "IPython").mkdir()
    (shell.directory / "IPython" / "__init__.py").touch()
    (shell.directory / "IPython" / "display.py").write_text(
        "def display(*shown, **options):\n"
        "    print('DISPLAY', shown, flush=True)\n"
        "    return Handle()\n"
        "class Handle:\n"
        "    def update(self, shown, **options):\n"
        "        print('UPDATE', shown, flush=True)\n"
    )
    cell = (
        "import builtins\n"
        "class ZMQInteractiveShell: pass\n"
        "builtins.get_ipython = ZMQInteractiveShell\n"
        "from cloudburst import Stack, follow\n"
        "last = follow(Stack.connect().ensemble('floods'))\n"
        "print('VALUE', last._repr_html_())\n"
        "print('VALUE', repr(last))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", cell],
        env=shell.environ,
        cwd=shell.directory,
        stdout=subprocess.PIPE,
        text=True,
    )

    first = process.stdout.readline()
    with shell.worker(double):
        rest, _ = process.communicate(timeout=30)

    assert first.startswith("DISPLAY ({'text/plain'")
    assert "installing &lt;numpy&gt;" in first
    assert "DISPLAY" not in rest
    assert "UPDATE" in rest
    assert rest.splitlines()[-2:] == [
        f"VALUE <code>{ensemble.id}: done, 40 of 40 done</code>",
        f"VALUE <EnsembleStatus {ensemble.id}: done, 40 of 40 done>",
    ]
