"""``cloudburst upgrade``: another payload for what has not started."""

from __future__ import annotations

import pytest

from tests.cli.shell import SUBMIT, Shell, last_line, odd_fails
from tests.ensemble.parts import payload
from tests.wait import wait_until


def submitted(shell: Shell, count: int, *, run: bool = False) -> str:
    """The id of an ensemble of that many jobs; those with odd seeds fail when they are run."""
    jobs = "".join(f'{{"seed": {seed}}}\n' for seed in range(count))
    ensemble = shell(*SUBMIT, stdin=jobs).stdout.strip()
    if run:
        with shell.worker(odd_fails):
            wait_until(lambda: shell.stack.ensemble(ensemble).status().complete, 20, "the jobs to end")
    return ensemble


def mended(shell: Shell) -> None:
    payload(shell.directory / "new")
    (shell.directory / "new" / "worker.py").write_text("def work(params):\n    return 1\n")


@pytest.mark.parametrize("named_by", ["directory", "digest", "short digest"])
def test_waiting_jobs_get_the_new_payload(shell, named_by):
    ensemble = submitted(shell, 3)
    before = shell.stack.ensemble(ensemble).status().payload
    mended(shell)
    other = shell.stack.submit("other", payload=shell.directory / "new", function="worker.work", jobs=[{}])
    digest = other.status().payload
    given = {"directory": "new", "digest": digest, "short digest": digest[:10]}[named_by]

    done = shell("upgrade", "floods", given)

    assert (done.returncode, done.stdout) == (0, "3\n")
    assert f"3 jobs of {ensemble} will run with payload {digest:.12}" in done.stderr
    assert shell.stack.ensemble(ensemble).status().payload == digest != before


def test_failed_jobs_run_again_when_asked_for_and_results_stay(shell):
    submitted(shell, 5, run=True)
    mended(shell)

    refused = shell("upgrade", "floods", "new")
    done = shell("upgrade", "floods", "new", "--rerun-failed")

    assert refused.returncode == 8
    assert "--rerun-failed" in last_line(refused.stderr)
    assert (done.returncode, done.stdout) == (0, "2\n")
    assert "3 results stay: 3 finished" in done.stderr


def test_a_payload_without_the_function_is_refused(shell):
    ensemble = submitted(shell, 1)
    before = shell.stack.ensemble(ensemble).status().payload
    payload(shell.directory / "new")
    (shell.directory / "new" / "worker.py").write_text("def other(params):\n    return 1\n")

    done = shell("upgrade", "floods", "new")

    assert done.returncode == 3
    assert "work" in done.stderr
    assert shell.stack.ensemble(ensemble).status().payload == before
