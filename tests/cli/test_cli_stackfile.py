"""A stack in one file: exported where it is known, imported elsewhere, refused when it is damaged."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudburst import Stack, config
from cloudburst.errors import ConfigError
from cloudburst.model import Endpoints
from cloudburst.stack import stackfile
from tests.cli.shell import Shell, double
from tests.wait import wait_until


@pytest.fixture
def elsewhere(shell: Shell) -> Shell:
    """The same commands with a home in which no stack is known."""
    other = copy.copy(shell)
    other.environ = shell.environ | {"CLOUDBURST_HOME": str(shell.directory / "elsewhere")}
    return other


def export(shell: Shell, file: Path) -> str:
    """Write the file as a shell does, readable by all; what was said."""
    with file.open("w") as out:
        file.chmod(0o644)
        process = shell.start("stack", "export", "local", stdout=out)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return str(err)


def test_a_colleague_submits_and_reads_with_one_file(shell: Shell, elsewhere: Shell) -> None:
    # given
    file = shell.directory / "floods.stack"
    said = export(shell, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "listens on this machine alone" in said

    # when
    taken = elsewhere("stack", "import", "floods.stack", "--name", "theirs")

    # then: the shell and Python reach the stack under that name, from a home that had none
    assert (taken.returncode, taken.stdout) == (0, "")
    assert "cloudburst status --stack theirs" in taken.stderr
    job = '{"seed": 4}\n'
    command = ("submit", "floods", "-p", "model", "-f", "worker.work", "--stack", "theirs")
    assert elsewhere(*command, stdin=job).returncode == 0
    with shell.worker(double):
        stack = Stack(config.endpoints(elsewhere.environ, "theirs"))
        wait_until(lambda: stack.ensemble("floods").status().complete, 20, "the job to end")
    assert "double" in elsewhere("results", "floods", "--stack", "theirs").stdout
    kept = shell.directory / "elsewhere" / "theirs"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert (kept / "endpoints.json").stat().st_mode & 0o777 == 0o600


def test_the_file_names_no_path_and_no_secret_of_the_operator(shell: Shell) -> None:
    home = shell.directory / "home" / "local"
    (home / "secrets").mkdir()
    (home / "secrets" / "redis-operator").write_text("the-operators-password")

    text = stackfile.exported(shell.environ, "local")

    assert "the-operators-password" not in text
    assert str(shell.directory) not in text


def test_it_is_not_shown_on_a_terminal(shell: Shell) -> None:
    with shell.on_terminal("stack", "export", "local") as terminal:
        assert terminal.exit_code() == 2
        assert "cloudburst stack export local > local.stack" in " ".join(terminal.text.split())
        assert shell.stack.endpoints.filestore_token not in terminal.text


def test_an_unknown_stack_is_not_exported(shell: Shell) -> None:
    done = shell("stack", "export", "nowhere")

    assert (done.returncode, done.stdout) == (2, "")
    assert "no stack 'nowhere' is known here" in done.stderr


def test_a_stack_that_was_started_here_is_not_replaced(shell: Shell) -> None:
    export(shell, shell.directory / "floods.stack")
    mine = shell.directory / "home" / "local"
    (mine / "settings.json").write_text("{}")
    before = (mine / "endpoints.json").read_text()

    done = shell("stack", "import", "floods.stack", "--name", "local")

    assert done.returncode == 2
    assert "choose another name for this one, with --name" in done.stderr
    assert (mine / "endpoints.json").read_text() == before


def changed(**changes: Any) -> Callable[[str], str]:
    """The file with other values, and the digest of what it says now."""

    def change(text: str) -> str:
        raw = json.loads(text)
        raw["ca"] = changes.get("ca", raw["ca"])
        raw["endpoints"] |= {key: value for key, value in changes.items() if key in raw["endpoints"]}
        raw["digest"] = stackfile.digest({"endpoints": raw["endpoints"], "ca": raw["ca"]})
        return json.dumps(raw)

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "it is not whole JSON"),
        (lambda _: "", "it is not whole JSON"),
        (lambda _: "[" * 100_000, "it is not whole JSON"),
        (lambda _: '{"stack": "local"}', "it does not begin as one"),
        (lambda _: "[1]", "it does not begin as one"),
        (lambda text: text.replace('"cloudburst_stack": 1', '"cloudburst_stack": 2'), "another version"),
        (lambda text: text.replace("rq:", "rx:").replace("redis://", "redis://x"), "its digest is of other"),
        (lambda _: '{"cloudburst_stack": 1, "endpoints": [], "ca": ""}', "are missing"),
        (changed(ca="no certificate"), "ca holds no certificate"),
        (changed(redis_url="file:///etc/passwd"), "redis_url is no address"),
        (changed(filestore_url="https://x:99999"), "filestore_url is no address"),
        (changed(influx_url=5), "influx_url should be a text"),
        (changed(stack="../../etc"), "stack name '../../etc'"),
    ],
)
def test_what_is_damaged_is_refused_and_leaves_nothing(
    shell: Shell, tmp_path: Path, damage: Callable[[str], str], said: str
) -> None:
    environ = {"CLOUDBURST_HOME": str(tmp_path / "other")}

    with pytest.raises(ConfigError, match=said):
        stackfile.imported(environ, damage(stackfile.exported(shell.environ, "local")), "floods.stack")

    assert not (tmp_path / "other").exists()


def test_a_file_that_names_a_certificate_elsewhere_does_not_lead_there(shell: Shell, tmp_path: Path) -> None:
    environ = {"CLOUDBURST_HOME": str(tmp_path / "other")}
    text = changed(ca_file="../../../etc/ssl/certs/ca-certificates.crt")(
        stackfile.exported(shell.environ, "local")
    )

    where = stackfile.imported(environ, text, "floods.stack", "theirs")

    assert where.ca_file == ""
    assert isinstance(config.endpoints(environ, "theirs"), Endpoints)


def test_what_is_too_large_is_not_read(shell: Shell) -> None:
    (shell.directory / "huge").write_bytes(b" " * (stackfile.MOST_BYTES + 1))

    done = shell("stack", "import", "huge")

    assert done.returncode == 2
    assert "larger than the file of any stack" in done.stderr
