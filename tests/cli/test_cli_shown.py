"""What is shown on a terminal, in a pipe, and where the encoding is not UTF-8."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pandas as pd

from cloudburst.rqwire import output
from tests.cli.shell import Shell, double, odd_fails

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\r\nsecond"
ESCAPES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
STYLES = re.compile(r"\x1b\[[0-9;]*[mKA]|\x1b\[\?25[lh]")


def evil(params: dict[str, Any]) -> Any:
    if params["seed"] == 1:
        raise ValueError(EVIL)
    return {"a": EVIL, EVIL: 1}


def with_evil_jobs(shell: Shell) -> str:
    ensemble = shell.submitted(3)
    shell.stack._queue.ensembles.note(ensemble.id, EVIL)
    with shell.worker(evil):
        ensemble.wait(20)
    return ensemble.id


def test_what_jobs_wrote_reaches_no_terminal_as_commands_for_it(shell):
    ensemble = with_evil_jobs(shell)
    output.publish(shell.redis, f"{ensemble}-0", EVIL.encode())
    shell.redis.hset(f"rq:job:{ensemble}-1", "cb_output", output.encoding.output(EVIL.encode()))

    for command in (
        ("results", "floods"),
        ("results", "floods", "--csv", "-"),
        ("failures", "floods"),
        ("watch", "floods"),
        ("status", "floods"),
        ("show", "floods"),
        ("logs", f"{ensemble}-0"),
        ("logs", f"{ensemble}-1"),
    ):
        with shell.on_terminal(*command) as terminal:
            terminal.exit_code()
        shown = STYLES.sub("", terminal.text).replace("\r\n", "\n")
        assert not ESCAPES.search(shown.replace("\r", "")), command
        if command[0] != "show" and command[0] != "status":
            assert "\\x1b]0;owned\\x07" in shown, command


def test_in_a_pipe_too_but_a_document_is_as_it_is(shell):
    ensemble = with_evil_jobs(shell)

    for command in (
        ("results", "floods"),
        ("failures", "floods"),
        ("logs", f"{ensemble}-1"),
        ("watch", "floods"),
    ):
        done = shell(*command)
        assert not ESCAPES.search(done.stdout + done.stderr), command
    document = shell("results", "floods", "--csv", "-").stdout
    assert "\x1b]0;owned" in document
    assert len(pd.read_csv(io.StringIO(document))) == 3


def test_a_stdout_that_takes_ascii_only_is_no_error(shell):
    ensemble = shell.submitted(2)
    with shell.worker(lambda params: {"näme": "wért \ud800", "seed": params["seed"]}):
        ensemble.wait(20)

    for variables in (
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ):
        shell.environ.update(variables)
        for command in (
            ("results", "floods"),
            ("results", "floods", "--csv", "-"),
            ("show", "floods"),
            ("status",),
        ):
            done = shell(*command)
            assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
        assert "n\\xe4me" in shell("results", "floods").stdout


def test_errors_are_complete_where_no_terminal_limits_them(shell):
    ensemble = shell.submitted(2)

    def fails(params: dict[str, Any]) -> None:
        raise ValueError("why it failed " * 20)

    with shell.worker(fails):
        ensemble.wait(20)

    assert ("why it failed " * 20).strip() in shell("results", "floods").stdout
    with shell.on_terminal("results", "floods") as terminal:
        terminal.exit_code()
    assert "why it failed " * 3 not in terminal.text


def test_warnings_are_shown_wherever_an_ensemble_is(shell):
    ensemble = shell.submitted(2)
    shell.stack._queue.ensembles.warn(ensemble.id, "job 1 overwrote points of job 0")
    with shell.worker(double):
        ensemble.wait(20)

    for command in (("status", "floods"), ("show", "floods"), ("watch", "floods"), ("results", "floods")):
        done = shell(*command)
        assert re.search("warning:? +job 1 overwrote points of job 0", done.stdout + done.stderr), command


def test_a_reader_that_has_had_enough_of_a_table_is_not_an_error(shell):
    for number in range(25):
        shell.submitted(1 + number % 2)
    process = shell.start("status")
    process.stdout.close()

    assert process.stderr.read() == ""
    assert process.wait(20) == 0


def test_csv_for_a_spreadsheet(shell):
    ensemble = shell.submitted(1)
    with shell.worker(lambda params: "=1+1"):
        ensemble.wait(20)

    assert ",=1+1," in shell("results", "floods", "--csv", "-").stdout
    assert ",'=1+1," in shell("results", "floods", "--csv", "-", "--spreadsheet").stdout


def test_what_is_nested_too_deep_is_read_by_every_command(shell):
    ensemble = shell.submitted(2)
    with shell.worker(odd_fails):
        ensemble.wait(20)
    entry = shell.redis.xrange(f"cb:ens:{ensemble.id}:results")[0]
    deep = "[" * 980 + "]" * 980
    fields = entry[1] | {b"value": deep.encode(), b"index": b"0"}
    shell.redis.xdel(f"cb:ens:{ensemble.id}:results", entry[0])
    shell.redis.xadd(f"cb:ens:{ensemble.id}:results", fields)

    for options in ((), ("--csv", "-"), ("--csv", "r.csv"), ("--parquet", "r.parquet"), ("--json",)):
        done = shell("results", "floods", *options)
        assert done.returncode == 0, done.stderr
    value = json.loads(shell("results", "floods", "--json").stdout.splitlines()[-1])["value"]
    assert json.dumps(value).count("[") == 980
