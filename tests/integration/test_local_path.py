"""The whole path on one machine, as a user goes it: commands in, files and words out."""

from __future__ import annotations

import csv
import json
import os
import pty
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.conftest import BIN, ROOT, Shell, write_model
from tests.wait import wait_until

SEEDS = "".join(json.dumps({"seed": seed}) + "\n" for seed in range(10))


def submit(local: Shell, model: Path, function="worker.work", stdin=SEEDS, *options: str) -> str:
    done = local.cloudburst("submit", "squares", "-p", model, "-f", function, *options, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_submit_watch_and_results_in_every_form(local, model, tmp_path):
    ensemble = submit(local, model)

    watched = local.cloudburst("watch", "squares")
    assert (watched.returncode, watched.stdout) == (0, "")
    assert f"{ensemble}: 10 of 10 done" in watched.stderr

    shown = local.cloudburst("results", ensemble)
    assert shown.stdout.splitlines()[0].split()[:4] == ["index", "state", "seed", "square"]
    assert local.cloudburst("results", ensemble, "--csv", tmp_path / "r.csv").returncode == 0
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert [row["square"] for row in rows] == [str(seed**2) for seed in range(10)]
    assert local.cloudburst("results", ensemble, "--parquet", tmp_path / "r.parquet").returncode == 0
    assert list(pd.read_parquet(tmp_path / "r.parquet")["square"]) == [seed**2 for seed in range(10)]
    lines = local.cloudburst("results", ensemble, "--json").stdout.splitlines()
    assert {json.loads(line)["value"]["square"] for line in lines} == {seed**2 for seed in range(10)}
    assert ensemble in local.cloudburst("status").stdout
    assert "10 of 10 done" in local.cloudburst("status", "squares").stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jobs.jsonl", '{"seed": 3}\n\n{"seed": 4}\n'),
        ("jobs.csv", "seed,comment\n3,first\n4,\n"),
        ("jobs.py", "def seeds():\n    for seed in (3, 4):\n        yield {'seed': seed}\n"),
    ],
)
def test_job_descriptions_come_from_json_lines_csv_and_python(local, model, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    source = f"{tmp_path / name}:seeds" if name.endswith(".py") else str(tmp_path / name)

    ensemble = submit(local, model, "worker.work", "", "--jobs", source, "--watch")

    lines = local.cloudburst("results", ensemble, "--json").stdout.splitlines()
    assert sorted(json.loads(line)["value"]["square"] for line in lines) == [9, 16]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("jobs.jsonl", '{"seed": 3}\n[1]\n', "jobs.jsonl:2: a job description is a JSON object, got [1]"),
        ("jobs.jsonl", "seed\n", "jobs.jsonl:1: not JSON"),
        ("jobs.csv", "seed,b\n3\n", "jobs.csv:2: 1 cells, but the header has 2"),
        ("missing.jsonl", None, "missing.jsonl: cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_job_description_is_refused_with_its_line(local, model, tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)

    done = local.cloudburst("submit", "wrong", "-p", model, "-f", "worker.work", "--jobs", tmp_path / name)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_failures_are_grouped_and_can_be_retried(local, model):
    ensemble = submit(local, model, stdin='{"seed": "bad"}\n{"seed": 1}\n{"seed": "bad"}\n')

    watched = local.cloudburst("watch", ensemble)
    assert watched.returncode == 1
    assert "2 × ValueError: no such seed (such as job " in watched.stderr
    shown = local.cloudburst("failures", ensemble).stdout
    assert shown.count("Traceback") == 1
    assert "looking at the bad one" in shown

    assert local.cloudburst("retry", ensemble).stdout == "2\n"
    assert local.cloudburst("watch", ensemble).returncode == 1


def test_cancel_ends_waiting_and_running_jobs(local, model):
    ensemble = submit(local, model, "worker.sleep", '{"s": 60}\n' * 5)
    wait_until(lambda: "sleeping" in local.cloudburst("logs", f"{ensemble}-0").stdout, what="the first job")

    assert local.cloudburst("cancel", ensemble).stdout == "5\n"

    began = time.monotonic()
    assert local.cloudburst("watch", ensemble).returncode == 1
    assert time.monotonic() - began < 5


def test_a_client_that_is_interrupted_loses_nothing(local, model):
    ensemble = submit(local, model, "worker.sleep", '{"s": 0.5}\n' * 24)
    watching = subprocess.Popen(
        [BIN / "cloudburst", "watch", ensemble], env=local.environ, stderr=subprocess.PIPE, text=True
    )
    assert watching.stderr is not None
    assert ensemble in watching.stderr.readline()

    watching.send_signal(2)

    assert f"{ensemble} goes on" in watching.stderr.read()
    assert watching.wait() == 130
    assert local.cloudburst("watch", ensemble).returncode == 0


def test_on_a_terminal_there_is_a_progress_bar(local, model):
    ensemble = submit(local, model, "worker.sleep", '{"s": 0.3}\n' * 6)
    ours, theirs = pty.openpty()

    watching = subprocess.Popen(
        [BIN / "cloudburst", "watch", ensemble],
        env=local.environ | {"TERM": "xterm"},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk

    assert watching.wait() == 0
    assert "━".encode() in seen
    assert b"100%" in seen
    assert b"6 of 6 done" in seen


@pytest.mark.parametrize(
    ("how", "options", "message"),
    [
        ("hang", ("--timeout", "1s"), "stopped: it ran longer than its timeout of 1 s"),
        ("leave", (), "SystemExit: the function called sys.exit(4)"),
        ("crash", ("--max-attempts", "1"), "its executor was killed by SIGSEGV (a crash in native code)"),
        ("fill", (), "MiB of memory, more than 300 MiB"),
        ("object_", (), "what the function returned is not JSON (object found in it)"),
        ("flood", (), "RuntimeError: after 100 MB"),
        ("nothing", (), "KeyError: 'nothing'"),
    ],
)
def test_a_function_that_misbehaves_is_told_in_the_terminal_that_submitted(
    local, tmp_path, how, options, message
):
    model = write_model(tmp_path / "model", cloudburst_toml="max_rss_mb = 300\n")

    done = local.cloudburst(
        "submit",
        "bad",
        "-p",
        model,
        "-f",
        "worker.misbehave",
        "--watch",
        *options,
        stdin=json.dumps({"how": how}),
    )

    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("files", "function", "exit_code", "message"),
    [
        ({"Pipfile": None}, "worker.work", 3, "no Pipfile"),
        ({"worker_py": "def work(:\n"}, "worker.work", 3, "worker.py:1"),
        ({}, "worker.missing", 3, "missing"),
        ({}, "nowhere.work", 3, "nowhere"),
        ({"cloudburst_toml": "colour = 1\n"}, "worker.work", 2, "colour: unknown key"),
    ],
)
def test_a_payload_that_would_not_run_is_refused_before_any_job(
    local, tmp_path, files, function, exit_code, message
):
    model = write_model(
        tmp_path / "model", **{name: text for name, text in files.items() if text is not None}
    )
    for name, text in files.items():
        if text is None:
            (model / name).unlink()

    done = local.cloudburst("submit", "refused", "-p", model, "-f", function, stdin=SEEDS)

    assert (done.returncode, done.stdout) == (exit_code, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) <= 3


@pytest.mark.parametrize(
    ("files", "function", "message"),
    [
        (
            {"worker_py": "import six_of_one\ndef work(p): pass\n"},
            "worker.work",
            "No module named 'six_of_one'",
        ),
        ({"Pipfile": '[requires]\npython_version = "3.5"\n'}, "worker.work", "3.5"),
        pytest.param(
            {"Pipfile": '[packages]\nsix = "==0.0.99"\n'}, "worker.work", "six==0.0.99", marks=pytest.mark.net
        ),
    ],
)
def test_what_only_the_node_can_find_out_fails_the_ensemble_at_once(
    local, tmp_path, files, function, message
):
    model = write_model(tmp_path / "model", **files)

    done = local.cloudburst("submit", "broken", "-p", model, "-f", function, "--watch", stdin=SEEDS * 20)

    assert done.returncode == 8
    assert "no job of it can run" in done.stderr
    assert message in done.stderr
    ensemble = done.stdout.strip()
    assert "200 of 200 done, 200 failed" in local.cloudburst("status", ensemble).stdout


def test_a_wrong_token_says_so(local, model, tmp_path):
    copy = Shell(tmp_path / "home")
    (copy.home / "local").mkdir(parents=True)
    endpoints = local.endpoints() | {"filestore_token": "wrong"}
    (copy.home / "local" / "endpoints.json").write_text(json.dumps(endpoints))

    done = copy.cloudburst("submit", "x", "-p", model, "-f", "worker.work", stdin=SEEDS)

    assert done.returncode == 5
    assert "token" in done.stderr


def test_without_a_stack_or_without_redis_it_says_how_to_start_one(local, model, tmp_path):
    nobody = Shell(tmp_path / "home")
    done = nobody.cloudburst("status")
    assert done.returncode == 2
    assert "./buildstack.sh --local" in done.stderr

    (nobody.home / "local").mkdir(parents=True)
    endpoints = local.endpoints() | {"redis_url": "redis://127.0.0.1:1/0"}
    (nobody.home / "local" / "endpoints.json").write_text(json.dumps(endpoints))
    done = nobody.cloudburst("submit", "x", "-p", model, "-f", "worker.work", stdin=SEEDS)
    assert done.returncode == 6
    assert "Redis at 127.0.0.1:1 does not answer" in done.stderr
    assert "./buildstack.sh --local" in done.stderr


def test_an_ensemble_that_does_not_exist_says_where_to_look(local):
    done = local.cloudburst("watch", "nothing-of-this-name")

    assert done.returncode == 8
    assert "`cloudburst status` lists those there are" in done.stderr


def test_the_plain_rq_client_runs(local, model, tmp_path):
    with zipfile.ZipFile(tmp_path / "worker.zip", "w") as archive:
        for path in model.iterdir():
            archive.write(path, path.name)
    endpoints = local.endpoints()
    password, _, redis = endpoints["redis_url"].removeprefix("redis://:").partition("@")
    environ = {
        "FILE_HOST_PORT": endpoints["filestore_url"].rpartition(":")[2],
        "FILE_HOST_TOKEN": endpoints["filestore_token"],
        "REDIS_PORT": redis.partition(":")[2].removesuffix("/0"),
        "REDIS_PASSWORD": password,
    }

    done = local(
        sys.executable, ROOT / "client" / "plain_rq.py", tmp_path / "worker.zip", "worker.work",
        '{"seed": 5}', '{"seed": "bad"}', **environ,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first == "finished {'square': 25}"
    assert second.startswith("failed Traceback")


def test_the_plain_rq_client_has_at_most_40_lines_and_run_py_at_most_120():
    assert len((ROOT / "client" / "plain_rq.py").read_text().splitlines()) <= 40
    assert len((ROOT / "client" / "run.py").read_text().splitlines()) <= 120


def test_rq_info_sees_queue_and_worker(local):
    done = local(BIN / "rq", "info", "--url", local.endpoints()["redis_url"])

    assert done.returncode == 0
    assert "1 workers, 1 queues" in done.stdout


OLD_CLIENT = """
import sys, time, requests, redis, rq
host, port, token, redis_port = sys.argv[1:]
files = f"http://{host}:{port}"
requests.post(f"{files}/upload?token={token}", files={"file": open("worker.zip", "rb")}).raise_for_status()
there = requests.get(f"{files}/files/worker.zip?token={token}")
assert there.content == open("worker.zip", "rb").read()
queue = rq.Queue(connection=redis.Redis(host, int(redis_port)))
jobs = [queue.enqueue("en_worker.work", {"seed": seed}) for seed in range(5)]
while not all(job.get_status(refresh=True) == "finished" for job in jobs):
    assert not any(job.is_failed for job in jobs)
    time.sleep(0.1)
print([job.return_value() for job in jobs])
"""


def test_a_client_of_the_older_cloudburst_works_without_a_change(tmp_path):
    shell = Shell(tmp_path / "home")
    shell.up("-n", "1", "--no-auth", CLOUDBURST_TOKEN="the-old-token")
    try:
        with zipfile.ZipFile(tmp_path / "worker.zip", "w") as archive:
            archive.writestr("Pipfile", "[packages]\n")
            archive.writestr("en_worker.py", "def work(params):\n    return params['seed'] + 1\n")
        endpoints = shell.endpoints()
        redis_port = endpoints["redis_url"].rpartition(":")[2].removesuffix("/0")
        filestore_port = endpoints["filestore_url"].rpartition(":")[2]

        done = subprocess.run(
            [sys.executable, "-c", OLD_CLIENT, "127.0.0.1", filestore_port, "the-old-token", redis_port],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

        assert done.stdout == "[1, 2, 3, 4, 5]\n", done.stderr
        for log in (shell.home / "local" / "logs").iterdir():
            assert "the-old-token" not in log.read_text(), log
    finally:
        shell.down()


def test_the_same_payload_is_the_same_archive(local, model, tmp_path):
    shutil.copytree(model, tmp_path / "copy")

    first = local.cloudburst("payload", "build", model, "-o", tmp_path / "a.zip")
    second = local.cloudburst("payload", "build", tmp_path / "copy", "-o", tmp_path / "b.zip")

    assert first.stdout == second.stdout
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_full_disk_in_the_file_store_is_told_in_the_terminal_that_submitted(tmp_path):
    shell = Shell(tmp_path / "home")
    files = shell.home / "local" / "files"
    files.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", files], check=True)
    try:
        shell.up("-n", "1")
        model = write_model(tmp_path / "model")
        (model / "large.bin").write_bytes(os.urandom(8 << 20))

        done = shell.cloudburst("submit", "large", "-p", model, "-f", "worker.work", stdin=SEEDS)

        assert done.returncode == 5
        assert "full" in done.stderr
        (model / "large.bin").unlink()
        done = shell.cloudburst("submit", "small", "-p", model, "-f", "worker.work", "--watch", stdin=SEEDS)
        assert done.returncode == 0, done.stderr
    finally:
        shell.down()
        subprocess.run(["umount", files], check=True)
