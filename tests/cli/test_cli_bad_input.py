"""What a new user may type, and what may lie where commands look: one line that says what to do."""

from __future__ import annotations

import json
import os

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from tests.cli.shell import SUBMIT, Shell, double

BAD_NAMES = ("-17", "floods-99", "\x1b[2J", "x" * 300, "")


def refused(shell: Shell, *arguments: str, stdin: str = "") -> str:
    """What a command says that must not go well: at most two lines, no traceback."""
    done = shell(*arguments, stdin=stdin)
    assert done.returncode not in {0, 130}, (arguments, done)
    assert "Traceback" not in done.stderr, (arguments, done.stderr)
    assert "\x1b" not in done.stderr, arguments
    if "Usage:" not in done.stderr:
        assert len(done.stderr.splitlines()) <= 2, (arguments, done.stderr)
    return done.stderr


@pytest.mark.parametrize(
    "command",
    ["watch", "results", "failures", "retry", "cancel", "show", "logs", "replay", "audit", "status"],
)
def test_ensembles_and_jobs_that_there_are_not(shell, command):
    shell.submitted(1)
    for name in BAD_NAMES if command in {"watch", "replay", "logs"} else BAD_NAMES[1:3]:
        refused(shell, command, "--", name)


def test_payloads_and_locks_that_there_are_not(shell):
    shell.submitted(1)
    (shell.directory / "bad.zip").write_bytes(b"PK\x03\x04" + os.urandom(500))
    for payload in ("nowhere", "bad.zip", "/dev/null", "/proc", "0" * 64, "\x1b[2J"):
        refused(shell, "submit", "x", "-p", payload, "-f", "worker.work", stdin="{}\n")
        refused(shell, "upgrade", "floods", payload)
    for name in ("nowhere", "00000000", "../x", "\x1b[2J", "a b?c"):
        refused(shell, "payload", "lock", "--", name)
    for name in ("../x", "/x", "a//b", "x" * 300, "."):
        refused(shell, "payload", "post", "model", "--as", name)


@pytest.mark.parametrize("option", ["--csv", "--parquet"])
def test_places_that_results_cannot_be_written_to(shell, option):
    with shell.worker(double):
        shell.submitted(1).wait(20)
    for path in ("no/such/dir/r", "model", "/proc/r", "/dev/full", "x" * 300, ".", "model/worker.py/r"):
        said = refused(shell, "results", "floods", option, path)
        assert "cannot be written" in said


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"redis_url": 5}', "\x00", "[" * 100_000])
def test_endpoints_that_are_none(shell, text):
    (shell.directory / "home" / "local" / "endpoints.json").write_text(text)

    assert "not the endpoints of a stack" in refused(shell, "status")


@pytest.mark.parametrize(
    "url", ["", "nonsense", "redis://127.0.0.1:99999/0", "http://x", "redis://[::1", "redis://:p@/x"]
)
def test_addresses_that_are_none(shell, url):
    shell.add_stack("wrong", redis_url=url)

    said = refused(shell, "status", "--stack", "wrong")

    assert "not the address of a Redis" in said or "does not answer" in said


def test_a_file_store_that_is_none(shell):
    for number, url in enumerate(("", "nonsense", "http://127.0.0.1:99999", "http://127.0.0.1:1", "ftp://x")):
        shell.add_stack(f"wrong-{number}", filestore_url=url)
        refused(shell, *SUBMIT, "--stack", f"wrong-{number}", stdin="{}\n")
    assert shell.stack.ensembles() == []


def test_a_stock_job_without_a_call_in_it_cannot_be_replayed(shell):
    job = Queue(connection=shell.redis, serializer=JSONSerializer).enqueue("worker.work", {"seed": 1})
    for data in (b"", b"{}", b"[]", b"[" * 5000, b"\xff", b"null"):
        shell.redis.hset(f"rq:job:{job.id}", "data", data)
        assert "says no function in its data" in refused(shell, "replay", job.id)
    shell.redis.hdel(f"rq:job:{job.id}", "data")
    refused(shell, "replay", job.id)


def test_a_disk_that_is_full_and_a_stdout_that_is_closed(shell):
    ensemble = shell.submitted(3)
    with shell.worker(double):
        ensemble.wait(20)
    with open("/dev/full", "w") as full:
        process = shell.start("results", "floods", "--json", stdout=full)
        _, said = process.communicate(timeout=60)

    assert process.returncode == 1
    assert said == "cloudburst: No space left on device\n"


def test_times_are_read_in_one_way(shell):
    for time in ("soon", "-5", "5 parsecs", "0"):
        assert "is no time: use 90s, 15min or 2h" in refused(
            shell, *SUBMIT, f"--timeout={time}", stdin="{}\n"
        )
    assert shell(*SUBMIT, "--timeout", "1h30m", stdin=json.dumps({}) + "\n").returncode == 0
    assert shell.stack.ensemble("floods").spec().timeout_s == 5400
