"""``cloudburst show``: one ensemble as a page, and what its jobs ran on as JSON."""

from __future__ import annotations

import json
import time

from cloudburst.model import PointsWaiting, Provenance
from cloudburst.rqwire.leases import Leases, Outcome
from cloudburst.rqwire.workers import Registration
from tests.cli.shell import Shell

LOCK = {"default": {"numpy": {"version": "==2.0"}}}


def submitted(shell: Shell, count: int) -> str:
    """The digest of the payload of an ensemble called floods."""
    (shell.directory / "model" / "Pipfile.lock").write_text(json.dumps(LOCK))
    arguments = ("-p", "model", "-f", "worker.work", "--timeout", "90s", "--retries", "2")
    done = shell("submit", "floods", *arguments, stdin="{}\n" * count)
    assert done.returncode == 0, done.stderr
    return shell.stack.ensemble("floods").status().payload


def end(shell: Shell, *outcomes: tuple[str, Provenance]) -> None:
    """End the next jobs in these states, as if they had run on that."""
    leases = Leases(shell.redis, queue="default", worker="w", node="node-1", lease_s=60)
    claims = leases.claim(len(outcomes))
    leases.finish(
        [
            Outcome(
                claim,
                state,
                1.0,
                0.5,
                b"1" if state == "finished" else b"",
                error="E",
                provenance=ran.to_json(),
            )
            for claim, (state, ran) in zip(claims, outcomes, strict=True)
        ]
    )


def test_provenance_is_json_with_the_lock_and_the_counts_of_each_environment(shell):
    digest = submitted(shell, 5)
    one = Provenance(digest, "e" * 64, "3.11.7", "linux-x86_64", "0.1.0", "sha256:abc")
    other = Provenance(digest, "f" * 64, "3.12.1", "linux-x86_64", "0.1.0")
    end(shell, ("finished", one), ("finished", one), ("finished", other))

    done = shell("show", "floods", "--provenance")

    told = json.loads(done.stdout)
    (payload,) = told.pop("payloads")
    ensemble = shell.stack.ensemble("floods").id
    assert told == {
        "ensemble": ensemble,
        "function": "worker.work",
        "seed": shell.stack.ensemble("floods").status().seed,
        "jobs": 5,
        "waiting": 2,
        "running": 0,
        "ended_unrun": 0,
    }
    ran_on = payload.pop("ran_on")
    assert payload == {"payload": digest, "current": True, "lock": LOCK, "lock_error": ""}
    assert ran_on == [
        {
            "environment": "e" * 64,
            "python": "3.11.7",
            "platform": "linux-x86_64",
            "cloudburst": "0.1.0",
            "image": "sha256:abc",
            "counts": {"finished": 2, "failed": 0, "cancelled": 0},
        },
        {
            "environment": "f" * 64,
            "python": "3.12.1",
            "platform": "linux-x86_64",
            "cloudburst": "0.1.0",
            "image": "",
            "counts": {"finished": 1, "failed": 0, "cancelled": 0},
        },
    ]


def test_jobs_that_never_ran_and_a_payload_without_lock_are_said(shell):
    done = shell("submit", "floods", "-p", "model", "-f", "worker.work", stdin="{}\n" * 3)
    shell("cancel", "floods")

    told = json.loads(shell("show", "floods", "--provenance").stdout)

    assert done.returncode == 0
    assert (told["waiting"], told["ended_unrun"]) == (0, 3)
    (payload,) = told["payloads"]
    assert (payload["lock"], payload["ran_on"]) == (None, [])
    assert "none has been made yet" in payload["lock_error"]


def test_the_page_says_what_the_ensemble_is_and_what_ran_on_what(shell):
    digest = submitted(shell, 4)
    end(shell, ("finished", Provenance(digest, "e" * 64, "3.11.7", "linux", "0.1.0", "sha256:abc")))

    done = shell("show", "floods")

    page = {line[:12].strip(): line[12:] for line in done.stdout.splitlines()}
    assert (page["function"], page["state"]) == ("worker.work", "running")
    assert page["limits"] == "1 min 30 s per job, 2 retries, 3 attempts"
    assert page["payload"] == digest
    assert page["seed"] == str(shell.stack.ensemble("floods").status().seed)
    assert page["jobs"].startswith("1 of 4 done")
    assert (
        f"1 finished with {digest:.12} on environment eeeeeeeeeeee, Python 3.11.7, CloudBurst 0.1.0, image "
        "sha256:abc"
    ) in done.stdout


def test_status_says_that_points_wait_for_the_database(shell):
    submitted(shell, 1)
    worker = Registration(shell.redis, name="a-1", queue="default", node="a", slots=4)
    worker.points_waiting = PointsWaiting(1200, time.time() - 3600, "InfluxDB answers 500 ([red]many)")
    worker.heartbeat(busy=0, current_job="")

    said = shell("status", "floods").stdout

    assert "about 1,200 points of jobs wait since 20" in said
    assert "until the database takes them: InfluxDB answers 500 ([red]many)" in said


def test_an_ensemble_that_failed_says_why(shell):
    submitted(shell, 1)
    shell.stack._queue.ensembles.fail(shell.stack.ensemble("floods").id, "no matching distribution")

    assert "error       no matching distribution" in shell("show", "floods").stdout
