"""status, results, failures, retry, logs: data on stdout, talk on stderr, as real processes."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow.parquet as pq

from cloudburst.rqwire import output
from tests.cli.shell import double, odd_fails


def test_status_lists_ensembles_and_shows_one(shell):
    assert "no ensembles yet" in shell("status").stdout
    ensemble = shell.submitted()
    with shell.worker(odd_fails):
        ensemble.wait(20)

    listed, one = shell("status"), shell("status", "floods")

    assert re.search(rf"{ensemble.id} +\S+ \S+ +done +4 +0 +0 +2 +2 +0\n", listed.stdout)
    assert "no worker is running" in listed.stdout
    assert f"{ensemble.id}: done, created" in one.stdout
    assert (
        "function  worker.work\npayload   the current worker.zip\njobs      4 of 4 done, 2 failed"
        in one.stdout
    )
    assert (listed.returncode, listed.stderr, one.returncode, one.stderr) == (0, "", 0, "")


def test_results_shows_the_first_rows_and_writes_all_of_them(shell):
    ensemble = shell.submitted(30)
    with shell.worker(double):
        ensemble.wait(20)

    table = shell("results", "floods")
    files = shell("results", "floods", "--csv", "all.csv", "--parquet", "all.parquet")
    lines = shell("results", "floods", "--json")
    piped = shell("results", "floods", "--csv", "-")

    assert len(table.stdout.splitlines()) == 21
    assert table.stdout.split()[:5] == ["index", "state", "seed", "double", "duration_s"]
    assert table.stderr == "20 of 30 results; all: --csv FILE, --parquet FILE, --json\n"
    assert (files.stdout, files.stderr) == ("", "all.parquet: 30 rows\nall.csv: 30 rows\n")
    assert pq.read_table(shell.directory / "all.parquet")["double"].to_pylist() == list(range(0, 60, 2))
    assert (shell.directory / "all.csv").read_text() == piped.stdout
    assert piped.stdout.startswith("index,state,seed,double,attempt,")
    values = {
        line["description"]["seed"]: line["value"] for line in map(json.loads, lines.stdout.splitlines())
    }
    assert values == {seed: {"double": 2 * seed} for seed in range(30)}
    assert (lines.stderr, piped.stderr) == ("", "")


def test_results_on_a_terminal_shows_the_columns_that_fit(shell):
    ensemble = shell.submitted(2)
    with shell.worker(lambda params: {"first": "a\nb [bold]", **{f"value_{i}": "x" * 20 for i in range(8)}}):
        ensemble.wait(20)

    with shell.on_terminal("results", "floods") as terminal:
        assert terminal.exit_code() == 0

    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.text)
    header, *rows = plain.splitlines()
    assert header.split() == ["index", "state", "seed", "first", "value_0", "value_1", "value_2"]
    assert rows[0].startswith("0      finished  0     a b [bold]  " + "x" * 20)
    assert "columns that did not fit: value_3, value_4, value_5, value_6, value_7, duration_s" in plain


def test_results_in_a_pipe_are_whole_even_where_colours_are_forced(shell):
    def fails(params: dict[str, Any]) -> Any:
        raise ValueError("pipe 117 is as wide as it is long, which no " + "very " * 30 + "ordinary pipe is")

    ensemble = shell.submitted(1)
    with shell.worker(fails):
        ensemble.wait(20)
    shell.environ["FORCE_COLOR"] = "1"

    assert "very ordinary pipe is" in shell("results", "floods").stdout


def test_results_that_cannot_be_written_are_one_line(shell):
    shell.submitted()

    done = shell("results", "floods", "--csv", "no/such/dir/all.csv")

    assert done.returncode == 2
    assert done.stderr == "cloudburst: no/such/dir/all.csv: cannot be written (No such file or directory)\n"


def test_a_reader_that_has_had_enough_is_not_an_error(shell):
    ensemble = shell.submitted(2_000)
    with shell.worker(lambda params: "x" * 200):
        ensemble.wait(30)
    process = shell.start("results", "floods", "--json")

    assert json.loads(process.stdout.readline())["state"] == "finished"
    process.stdout.close()

    assert process.stderr.read() == ""
    process.wait(20)


def test_failures_are_shown_by_kind_and_retried_by_kind(shell):
    ensemble = shell.submitted(6)

    def two_kinds(params: dict[str, Any]) -> Any:
        if params["seed"] == 5:
            raise KeyError("depth")
        return odd_fails(params)

    with shell.worker(two_kinds):
        ensemble.wait(20)

    shown = shell("failures", "floods")
    none = shell("retry", "floods", "--fingerprint", "nothing")
    some = shell("retry", "floods", "--fingerprint", "valueerror")
    again = shell("failures", "floods")

    assert shown.stdout.index("2 × ValueError: seed ") < shown.stdout.index("1 × KeyError: 'depth'")
    assert f'fingerprint keyerror, such as job 5 ({ensemble.id}-5)\ndescription {{"seed": 5}}' in shown.stdout
    assert shown.stdout.count("Traceback (most recent call last)") == 2
    assert shown.stdout.count("It printed:\nprinted before it failed\n") == 2
    assert f"cloudburst retry {ensemble.id} [--fingerprint valueerror]" in shown.stderr
    assert (none.stdout, none.stderr) == ("0\n", f"no failed jobs of that kind in {ensemble.id}\n")
    assert (some.returncode, some.stdout, some.stderr) == (0, "2\n", "")
    assert "ValueError" not in again.stdout
    with shell.worker(double):
        assert shell("watch", "floods").returncode == 1
    assert ensemble.status().finished == 5


def test_failures_of_an_ensemble_without_any_are_an_empty_stdout(shell):
    ensemble = shell.submitted()

    done = shell("failures", "floods")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"no failed jobs in {ensemble.id}\n")


def test_logs_shows_what_a_running_or_failed_job_printed(shell):
    ensemble = shell.submitted(2)
    output.publish(shell.redis, f"{ensemble.id}-0", "step 17 of 20: ü".encode())

    running, silent = shell("logs", f"{ensemble.id}-0"), shell("logs", f"{ensemble.id}-1")
    unknown = shell("logs", "floods-17")
    with shell.worker(odd_fails):
        ensemble.wait(20)
    failed = shell("logs", f"{ensemble.id}-1")

    assert (running.returncode, running.stdout, running.stderr) == (0, "step 17 of 20: ü\n", "")
    assert (silent.returncode, silent.stdout) == (0, "")
    assert "has printed nothing so far" in silent.stderr
    assert unknown.returncode == 8
    assert "no job 'floods-17' here" in unknown.stderr
    assert failed.stdout == "printed before it failed\n"
