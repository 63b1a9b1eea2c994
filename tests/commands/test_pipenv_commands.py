"""Command lines of a build, and which variables reach it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloudburst.commands import pipenv

PROJECT = Path("/srv/environments/abc")


def test_pipenv_is_the_one_of_the_interpreter_that_is_given() -> None:
    command = pipenv.lock("/opt/cloudburst/bin/python", PROJECT, mirror="http://m")

    assert command.argv == ("/opt/cloudburst/bin/python", "-P", "-m", "pipenv", "lock", "--verbose")
    assert command.env["PIPENV_PYPI_MIRROR"] == "http://m"
    assert command.cwd == PROJECT
    assert command.env["PIPENV_PIPFILE"] == "/srv/environments/abc/Pipfile"
    assert command.env["PIPENV_VENV_IN_PROJECT"] == "1"


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LC_ALL", "CFLAGS", "https_proxy", "HTTP_PROXY", "NO_PROXY"),
        *("PIP_INDEX_URL", "PIP_CERT", "PIPENV_PYPI_MIRROR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
        *("UV_DEFAULT_INDEX", "UV_HTTP_TIMEOUT"),
    ],
)
def test_what_says_how_to_reach_and_build_packages_is_kept(name: str) -> None:
    assert pipenv.environ_for_tools({name: "x"}, Path("/cache"))[name] == "x"


@pytest.mark.parametrize(
    "name",
    [
        *("REDIS_PASSWORD", "FILE_HOST_TOKEN", "INFLUX_TOKEN", "CLOUDBURST_REDIS_URL"),
        *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"),
        *("PIPENV_ACTIVE", "PIPENV_PIPFILE", "PIPENV_CUSTOM_VENV_NAME", "PIP_TARGET", "PIP_USER"),
        *("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_NO_VERIFY_HASHES", "CLOUDBURST_BUILD_TOKEN"),
    ],
)
def test_secrets_and_what_leads_astray_are_not(name: str) -> None:
    assert name not in pipenv.environ_for_tools({name: "x"}, Path("/cache"))


@pytest.mark.parametrize(
    ("environ", "cache"),
    [
        ({}, "/cache/pipenv"),
        ({"PIP_CACHE_DIR": "/pip"}, "/pip"),
        ({"PIP_CACHE_DIR": "/pip", "PIPENV_CACHE_DIR": "/mine"}, "/mine"),
    ],
)
def test_the_cache_is_private_unless_the_user_has_chosen_one(environ: dict[str, str], cache: str) -> None:
    assert pipenv.environ_for_tools(environ, Path("/cache"))["PIPENV_CACHE_DIR"] == cache


def test_a_lock_is_verified_as_if_pip_knew_no_other_index() -> None:
    environ = {"PIP_INDEX_URL": "x", "PIP_EXTRA_INDEX_URL": "y", "PIP_CERT": "z"}

    assert pipenv.without_indexes(environ) == {"PIP_CERT": "z", "PIP_CONFIG_FILE": "/dev/null"}


@pytest.mark.parametrize(
    ("path", "compiled"),
    [("numpy/linalg.py", True), ("numpy/tests/x.py", False), ("pip/x.py", False), ("pipes/test/x.py", False)],
)
def test_everything_is_compiled_but_tests_wherever_the_environment_is(path: str, compiled: bool) -> None:
    site = Path("/home/tests/pip/env+1/lib/python3.11/site-packages")
    argv = pipenv.compile_bytecode(Path("/env/bin/python"), site).argv

    skipped = re.compile(argv[argv.index("-x") + 1])

    assert (skipped.search(f"{site}/{path}") is None) is compiled
