"""watch: on a terminal, in a pipe, and interrupted, as real processes."""

from __future__ import annotations

import re
import signal
import threading
import time

from cloudburst.rqwire.ensembles import Ensembles
from tests.cli.shell import double, last_line, odd_fails
from tests.wait import wait_until


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
