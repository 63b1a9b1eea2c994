"""audit, as a real process."""

from __future__ import annotations

import json

from tests.cli.shell import Shell, odd_fails


def test_audit_prints_counts_and_says_that_all_is_well(shell: Shell):
    ensemble = shell.submitted(4)
    with shell.worker(odd_fails):
        ensemble.wait(20)

    of_one, of_all = shell("audit", "floods"), shell("audit")

    assert (of_one.returncode, of_all.returncode) == (0, 0)
    title, row = of_one.stdout.splitlines()
    assert title.split() == [
        "ensemble", "state", "jobs", "waiting", "running", "finished", "failed", "cancelled", "breaches",
    ]  # fmt: skip
    assert row.split() == [ensemble.id, "done", "4", "0", "0", "2", "2", "0", "0"]
    assert of_all.stdout.splitlines() == [title, row, "queue default: 0 waiting, 0 running"]
    assert of_one.stderr == of_all.stderr == "nothing is lost, nothing is doubled\n"


def test_audit_names_what_is_lost_and_exits_with_1(shell: Shell):
    ensemble = shell.submitted(4)
    shell.redis.delete(f"rq:job:{ensemble.id}-2")

    done = shell("audit", "floods")
    parsed = json.loads(shell("audit", "--json").stdout)

    assert done.returncode == 1
    assert f"breach: {ensemble.id}-2: is lost: it has no hash and no record" in done.stdout.splitlines()
    assert done.stderr == "1 breach: see docs/troubleshooting.md\n"
    (account,) = parsed["ensembles"]
    assert (account["submitted"], account["waiting"], account["breach_count"]) == (4, 3, 1)
    assert account["breaches"] == [
        {"job_id": f"{ensemble.id}-2", "what": "is lost: it has no hash and no record"}
    ]


def test_a_stack_without_ensembles_is_audited_too(shell: Shell):
    done = shell("audit")

    assert (done.returncode, done.stdout) == (0, "")


def test_a_repair_is_shown_and_asked_for(shell):
    ensemble = shell.stack.submit("floods", function="worker.work", jobs=[{}] * 3)
    shell.redis.hset(f"cb:ens:{ensemble.id}", "running", 69)

    refused = shell("audit", "--repair", stdin="n\n")
    still = shell("audit")
    done = shell("audit", "--repair", "--yes")
    again = shell("audit", "floods", "--repair")

    assert "running: 0 instead of '69'" in refused.stderr
    assert (refused.returncode, still.returncode) == (1, 1)
    assert (done.returncode, "1 put right" in done.stderr) == (0, True)
    assert (again.returncode, "there is nothing to repair" in again.stderr) == (0, True)
