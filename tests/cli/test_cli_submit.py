"""submit, and the commands for payloads, as real processes."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

from cloudburst import archive
from tests.cli.shell import SUBMIT, Shell, double, last_line
from tests.wait import wait_until


def jobs_of(shell: Shell) -> list[dict[str, Any]]:
    """Descriptions of the latest ensemble, after a worker has returned them as they came."""
    ensemble = shell.stack.ensembles()[0]
    with shell.worker(lambda params: params):
        records = sorted(ensemble.watch(timeout_s=20), key=lambda record: record.index)
    return [record.value for record in records]


def test_submit_prints_the_id_alone_on_stdout_and_says_how_to_go_on(shell):
    done = shell(*SUBMIT, stdin='{"seed": 1}\n\n{"seed": 2}\n')

    assert (done.returncode, done.stdout) == (0, f"{shell.stack.ensembles()[0].id}\n")
    assert re.fullmatch(
        r"2 jobs submitted in [\d.]+ s\nsee how it goes: cloudburst watch floods-\w{6}\n", done.stderr
    )
    assert jobs_of(shell) == [{"seed": 1}, {"seed": 2}]


def test_submit_reads_csv_and_python_iterables(shell):
    (shell.directory / "jobs.csv").write_text("seed,spread\n1,0.5\n2,0.25\n")
    (shell.directory / "scenarios.py").write_text("def jobs():\n    yield {'seed': 3}\n")

    assert shell(*SUBMIT, "--jobs", "jobs.csv").returncode == 0
    assert jobs_of(shell) == [{"seed": 1, "spread": 0.5}, {"seed": 2, "spread": 0.25}]
    assert shell(*SUBMIT, "--jobs", "scenarios.py:jobs").returncode == 0
    assert jobs_of(shell) == [{"seed": 3}]


def test_jobs_that_cannot_be_read_are_one_line_and_cancel_what_was_accepted(shell):
    (shell.directory / "jobs.jsonl").write_text('{"seed": 1}\n' * 600 + "[1, 2]\n")

    done = shell(*SUBMIT, "--jobs", "jobs.jsonl")

    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first == "cloudburst: jobs.jsonl:601: a job description is a JSON object, got [1, 2]"
    assert second.startswith("500 jobs had been accepted into floods-")
    assert shell.stack.ensemble("floods").status().state == "cancelled"


def test_submit_refuses_what_cannot_be_meant(shell):
    wrong_time = shell(*SUBMIT, "--timeout", "soon")
    no_payload = shell("submit", "floods", "-p", "nowhere", "-f", "worker.work", stdin="{}\n")
    no_function = shell("submit", "floods", "-p", "model", "-f", "worker.play", stdin="{}\n")

    assert (wrong_time.returncode, no_payload.returncode, no_function.returncode) == (2, 3, 3)
    assert "'soon' is no time: use 90s, 15min or 2h" in wrong_time.stderr
    assert "worker.py does not define play" in no_function.stderr
    assert shell.stack.ensembles() == []


def test_submit_passes_its_options_on(shell):
    options = ("--timeout", "1.5h", "--retries", "2", "--max-attempts", "1", "--seed", "7")
    done = shell(*SUBMIT, *options, stdin="{}\n")

    fields = shell.redis.hgetall(f"cb:ens:{done.stdout.strip()}")
    assert (fields[b"timeout"], fields[b"retries"], fields[b"max_attempts"]) == (b"5400", b"2", b"1")
    assert fields[b"seed"] == b"7"


def test_cancel_of_a_complete_ensemble_says_that_it_is_done(shell):
    with shell.worker(double):
        ensemble = shell(*SUBMIT, "--watch", stdin='{"seed": 1}\n').stdout.strip()

    done = shell("cancel", ensemble)

    assert (done.returncode, done.stdout) == (0, "0\n")
    assert done.stderr == f"{ensemble} is done: no job of it was left to cancel\n"


def test_submit_and_watch_in_one_prints_only_the_id_on_stdout(shell):
    with shell.worker(double):
        done = shell(*SUBMIT, "--watch", stdin='{"seed": 1}\n')

    assert done.returncode == 0
    assert re.fullmatch(r"floods-\w{6}\n", done.stdout)
    assert "1 of 1 done" in last_line(done.stderr)


def test_an_interrupted_submission_is_cancelled_and_says_so(shell):
    (shell.directory / "slow.py").write_text(
        "import time\n"
        "def jobs():\n"
        "    for seed in range(700):\n"
        "        yield {'seed': seed}\n"
        "    time.sleep(60)\n"
    )
    process = shell.start(*SUBMIT, "--jobs", "slow.py:jobs")
    wait_until(lambda: shell.stack.queue_depth() == 500, 30, "the first chunk")

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert re.search(r"interrupted\n500 jobs had been accepted into floods-\w{6}; .* are cancelled", err)
    assert shell.stack.ensemble("floods").status().state == "cancelled"


def test_a_killed_submission_is_marked_and_resumed(shell):
    (shell.directory / "slow.py").write_text(
        "import pathlib, time\n"
        "def jobs():\n"
        "    for seed in range(1200):\n"
        "        yield {'seed': seed}\n"
        "        if seed == 700 and not pathlib.Path('go').exists():\n"
        "            time.sleep(60)\n"
    )
    command = (*SUBMIT, "--jobs", "slow.py:jobs")
    process = shell.start(*command)
    wait_until(lambda: shell.stack.queue_depth() == 500, 30, "the first chunk")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ensemble = shell.stack.ensembles()[0].id
    shell.redis.hincrbyfloat(f"cb:ens:{ensemble}", "appended_at", -90)
    advice = f"{ensemble} is not complete: it has 500 jobs, the last came 1 min 3"

    assert advice in shell("status").stdout
    assert advice in shell("status", "floods").stdout
    assert advice in shell("results", "floods").stderr
    watching = shell.start("watch", "floods")
    assert watching.stderr.readline().startswith(advice)
    watching.kill()
    watching.communicate()

    (shell.directory / "go").touch()
    other = shell(*SUBMIT, "--resume", stdin='{"seed": 1}\n')
    done = shell(*command, "--resume")
    again = shell(*command, "--resume")

    assert (other.returncode, other.stderr) == (
        8, f"cloudburst: {ensemble} has 500 jobs already, these are only 1\n",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{ensemble}\n")
    assert re.match(r"500 jobs were there, 700 jobs submitted in [\d.]+ s\n", done.stderr)
    assert (again.returncode, again.stdout) == (0, f"{ensemble}\n")
    assert again.stderr.startswith("nothing was missing: all 1,200 jobs had been submitted\n")
    assert shell("audit", "floods").returncode == 0
    assert jobs_of(shell) == [{"seed": seed} for seed in range(1200)]


def test_payload_build_and_post_print_the_digest(shell):
    built = shell("payload", "build", "model", "-o", "worker.zip", "--function", "worker.work")
    digest = archive.digest(shell.directory / "worker.zip")
    posted = shell("payload", "post", "worker.zip")
    as_named = shell("payload", "post", "model", "--as", "en_worker.zip")

    assert (built.returncode, built.stdout) == (0, f"{digest}\n")
    assert re.fullmatch(r"worker.zip: 2 files, \d+ bytes\n", built.stderr)
    assert (posted.stdout, as_named.stdout) == (f"{digest}\n", f"{digest}\n")
    assert shell.stack._files.etag("en_worker.zip") == digest


def test_payload_build_says_what_would_not_run(shell):
    (shell.directory / "model" / "Pipfile").unlink()

    done = shell("payload", "build", "model")

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("cloudburst: model: no Pipfile")
    assert not (shell.directory / "worker.zip").exists()


def test_a_dry_run_shows_how_the_jobs_were_understood_and_sends_nothing(shell):
    (shell.directory / "jobs.csv").write_text(
        "seed,gauge,leak\n1,007,TRUE\n2,12E5,\n3,,false\n,,\n4,8,TRUE\n"
    )

    done = shell(*SUBMIT, "--jobs", "jobs.csv", "--dry-run")

    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        '{"seed": 1, "gauge": "007", "leak": true}',
        '{"seed": 2, "gauge": "12E5"}',
        '{"seed": 3, "leak": false}',
    ]
    assert "4 jobs; their parameters:\n  seed: whole numbers\n" in done.stderr
    assert (
        "  gauge: text, because of '007' in line 2; 1 empty\n  leak: true or false; 1 empty\n" in done.stderr
    )
    assert "  1 empty rows are left out\n" in done.stderr
    assert done.stderr.endswith("nothing was sent\n")
    assert shell.stack.ensembles() == []


def test_a_dry_run_tells_of_json_lines_too_and_finds_the_same_faults(shell):
    lines = '{"seed": 1, "at": [1]}\n{"seed": 0.5}\n'
    assert (
        "  seed: 1 whole numbers, 1 numbers\n  at: lists; 1 without"
        in shell(*SUBMIT, "--dry-run", stdin=lines).stderr
    )

    deep = '{"a": ' + "[" * 200 + "]" * 200 + "}\n"
    for bad, code in ((deep, 8), ("[1]\n", 2), ("", 8)):
        done = shell(*SUBMIT, "--dry-run", stdin=bad)
        assert (done.returncode, done.stdout) == (code, "")


def test_names_that_would_be_options_paths_or_more_than_a_line_are_refused(shell):
    for name in ("-x", "../up", "a/b", "a\nb", "\x1b[2J", "", "x" * 81, "ä"):
        done = shell("submit", "-p", "model", "-f", "worker.work", "--", name, stdin='{"seed": 1}\n')
        assert done.returncode == 8
        assert "use up to 80 letters, digits, '-' and '_', not '-' first" in done.stderr
        assert "\x1b" not in done.stderr


def test_something_urgent_goes_first_as_its_page_says(shell):
    page = (Path(__file__).parents[2] / "docs" / "urgent.md").read_text()
    cancel, submit, retry = re.findall(r"^cloudburst ([^#\n]*)", page, re.MULTILINE)[:3]
    (shell.directory / "twenty.jsonl").write_text("".join(f'{{"seed": {1000 + i}}}\n' for i in range(20)))
    order: list[int] = []

    def seen(params: dict[str, Any]) -> None:
        order.append(params["seed"])

    # given: some of a large ensemble have ended
    large = shell.submitted(300)
    with shell.worker(seen):
        wait_until(lambda: len(order) > 10, 20, "some jobs to end")
    ended = len(order)

    # when
    assert shell(*cancel.split()).returncode == 0
    assert shell(*submit.replace("--watch", "").split()).returncode == 0
    assert shell(*retry.split()).returncode == 0
    with shell.worker(seen):
        wait_until(lambda: large.status().complete, 30, "all jobs to end")

    # then: the urgent ones came next, and all jobs of the other have run; those that were stopped, again
    assert order[ended : ended + 20] == list(range(1000, 1020))
    assert set(order) == {*range(300), *range(1000, 1020)}
    assert large.status().finished == 300
