"""Command lines of uv: pip's variables in its words, and which index may offer what."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudburst.commands import uv
from cloudburst.commands.command import Command
from cloudburst.commands.sources import Source

ENV_PYTHON = Path("/env/bin/python")
LINES = Path("/tmp/requirements.txt")
MINE = Source("mine", "https://ada:s3cret@packages.example:8443/simple")
OTHER = Source("other", "https://other.example/simple", verify_ssl=False)


def install(*sources: Source, hashes: bool = True, **environ: str) -> Command:
    return uv.install("python", ENV_PYTHON, LINES, hashes=hashes, sources=sources, environ=environ)


@pytest.mark.parametrize(
    ("pip", "ours"),
    [
        ({"PIP_INDEX_URL": "https://a"}, {"UV_DEFAULT_INDEX": "https://a"}),
        ({"PIP_EXTRA_INDEX_URL": "https://a https://b"}, {"UV_INDEX": "https://a https://b"}),
        ({"PIP_FIND_LINKS": "/wheels /more"}, {"UV_FIND_LINKS": "/wheels,/more"}),
        ({"PIP_TIMEOUT": "3", "PIP_RETRIES": "0"}, {"UV_HTTP_TIMEOUT": "3", "UV_HTTP_RETRIES": "0"}),
        ({"PIP_TRUSTED_HOST": "a:8080"}, {"UV_INSECURE_HOST": "a:8080"}),
        ({"PIP_CLIENT_CERT": "/c.pem"}, {"SSL_CLIENT_CERT": "/c.pem"}),
        ({"PIP_INDEX_URL": ""}, {}),
    ],
)
def test_what_pip_is_told_uv_is_told_too(pip: dict[str, str], ours: dict[str, str]) -> None:
    assert uv.variables(pip) == {**pip, **ours}


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_what_uv_itself_is_told_wins(name: str) -> None:
    said = uv.variables({"PIP_INDEX_URL": "https://a", name: "https://b"})

    assert said["UV_DEFAULT_INDEX"] == "https://b"


def test_with_hashes_any_source_may_offer_a_package() -> None:
    command = install(MINE, OTHER, UV_INDEX="https://extra.example")

    assert command.argv[5:] == (
        *("install", "--no-deps", "--python", "/env/bin/python", "--index-strategy", "unsafe-best-match"),
        *("--require-hashes", "--requirements", "/tmp/requirements.txt"),
    )
    assert command.env["UV_DEFAULT_INDEX"] == MINE.url
    assert "first-index" in install(MINE).argv  # nothing to choose from
    assert command.env["UV_INDEX"] == "https://other.example/simple https://extra.example"
    assert command.env["UV_INSECURE_HOST"] == "other.example"


def test_without_hashes_the_first_source_alone_is_asked() -> None:
    command = install(MINE, OTHER, hashes=False, UV_INDEX="https://extra.example")

    assert "first-index" in command.argv
    assert "--require-hashes" not in command.argv
    assert command.env["UV_DEFAULT_INDEX"] == MINE.url
    assert command.env["UV_INDEX"] == ""


def test_passwords_are_neither_in_argv_nor_shown() -> None:
    command = install(MINE)

    assert "s3cret" not in " ".join(command.argv)
    assert "s3cret" not in f"{command!r}{MINE!r}"


def test_the_default_is_left_to_the_variables_when_there_is_no_source() -> None:
    assert "UV_DEFAULT_INDEX" not in install().env


def test_flags_stand_for_what_uv_has_no_variables_for() -> None:
    argv = install(PIP_NO_INDEX="1", PIP_NO_BINARY="numpy,wntr", PIP_ONLY_BINARY=":all:").argv

    assert {"--no-index", "--no-binary=numpy", "--no-binary=wntr", "--only-binary=:all:"} <= set(argv)


@pytest.mark.parametrize("off", ["", "0", "false", "off"])
def test_a_flag_that_is_off_is_none(off: str) -> None:
    assert "--no-index" not in install(PIP_NO_INDEX=off).argv
