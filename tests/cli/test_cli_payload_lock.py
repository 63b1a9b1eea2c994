"""``cloudburst payload lock``: the versions that a payload's environment has."""

from __future__ import annotations

import json

import pytest

from cloudburst import names
from tests.cli.shell import Shell, last_line

pytestmark = pytest.mark.slow

OWN, MADE = '{"default": {"numpy": {}}}\n', json.dumps({"default": {}, "made": True}) + "\n"


def placed(shell: Shell, lock: str = "") -> str:
    """The digest of a payload that an ensemble called floods runs with."""
    # The file store outlives a test: no other has the same payload.
    (shell.directory / "model" / "data.txt").write_text(str(shell.directory))
    if lock:
        (shell.directory / "model" / "Pipfile.lock").write_text(lock)
    done = shell("submit", "floods", "-p", "model", "-f", "worker.work", stdin="{}\n")
    assert done.returncode == 0, done.stderr
    return shell.stack.ensemble("floods").status().payload


@pytest.mark.parametrize("name", ["{digest}", "{short}", "floods", "worker.zip", None])
def test_the_payloads_own_lock_is_printed_by_whatever_name_it_has(shell, name):
    digest = placed(shell, OWN)
    shell("payload", "post", "model")

    arguments = [] if name is None else [name.format(digest=digest, short=digest[:8])]
    done = shell("payload", "lock", *arguments)

    assert (done.returncode, done.stdout) == (0, OWN)
    assert digest in done.stderr


def test_without_one_the_lock_that_was_made_for_it_is_printed(shell):
    digest = placed(shell)
    early = shell("payload", "lock", "floods")
    shell.stack.files.put(names.stored_lock(digest), MADE.encode())
    late = shell("payload", "lock", "floods")

    assert (early.returncode, early.stdout) == (3, "")
    assert "none has been made yet: the first worker that gets a job with it makes one" in early.stderr
    assert (late.returncode, late.stdout) == (0, MADE)


@pytest.mark.parametrize("name", ["nothing", "0123456789", "../secret"])
def test_a_name_that_nothing_has_is_one_line(shell, name):
    done = shell("payload", "lock", name)

    assert done.returncode in {3, 5}
    assert len(done.stderr.splitlines()) == 1
    assert name in last_line(done.stderr)


def test_a_beginning_that_several_payloads_have_is_refused(shell):
    for tail in "ab":
        shell.stack.files.put(names.stored_payload("12345678" + tail * 56), b"x")

    done = shell("payload", "lock", "12345678")

    assert done.returncode == 3
    assert "2 payloads begin so: give more of its digest" in done.stderr
