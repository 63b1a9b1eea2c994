"""Command lines that install a payload's dependencies, and the variables they run with."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from cloudburst.commands.command import Command

_KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_.*|TZ|XDG_.*|NETRC|SSH_AUTH_SOCK|GIT_SSH.*|GIT_SSL_.*"
    r"|PIP_.*|PIPENV_.*|VIRTUALENV_.*|UV_.*|SSL_.*|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(?i:.*_proxy)"
    r"|CC|CXX|FC|CFLAGS|CPPFLAGS|CXXFLAGS|FFLAGS|LDFLAGS|LD_LIBRARY_PATH|PKG_CONFIG_PATH|MAKEFLAGS"
)
"""Names of variables that reach the tools. Installing runs code of the packages, so secrets must not."""

_MISLEADING = re.compile(
    r"PIPENV_(ACTIVE|PIPFILE|CUSTOM_VENV_NAME|PYTHON|DEV|SITE_PACKAGES)|PIP_(TARGET|PREFIX|ROOT|USER|REQUIRE_VIRTUALENV)"
    r"|UV_(PYTHON|PROJECT\w*|SYSTEM_PYTHON|BREAK_SYSTEM_PACKAGES|WORKING_DIR\w*|REQUIRE_HASHES|INDEX_STRATEGY)"
    r"|UV_(NO_VERIFY_HASHES|CONSTRAINT|OVERRIDE|EXCLUDE\w*|COMPILE_BYTECODE|VENV_CLEAR|VENV_SEED)"
)
"""Would have pipenv install something else, or somewhere else."""

_INDEXES = frozenset({"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"})

_OPTIONS = re.compile(
    r"CC|CXX|FC|CFLAGS|CPPFLAGS|CXXFLAGS|FFLAGS|LDFLAGS|(PIP|UV)_(NO_BINARY|ONLY_BINARY|NO_BUILD)\w*"
    r"|(PIP|UV)_(GLOBAL_OPTION|CONFIG_SETTINGS?|BUILD_CONSTRAINT|NO_BUILD_ISOLATION)\w*"
)
"""Names of variables that change what is installed from the same lock."""

_PIPENV = {
    "PIPENV_VENV_IN_PROJECT": "1",
    "PIPENV_IGNORE_VIRTUALENVS": "1",
    "PIPENV_DONT_USE_PYENV": "1",  # they would offer to install a Python, or fail in their shims
    "PIPENV_DONT_USE_ASDF": "1",
    "PIPENV_DONT_LOAD_ENV": "1",  # a .env file of the payload is for its jobs
    "PIPENV_YES": "1",
    "PIPENV_NOSPIN": "1",
    "PIPENV_HIDE_EMOJIS": "1",
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "LANG": "C.UTF-8",  # else pipenv complains
    "NO_COLOR": "1",
    "TERM": "dumb",
    "COLUMNS": "1000",  # else pipenv wraps its messages at 80
    "VIRTUALENV_QUIET": "1",
}


def environ_for_tools(environ: Mapping[str, str], cache_dir: Path) -> dict[str, str]:
    """What of ``environ`` the tools get; their caches are under ``cache_dir`` unless it names others."""
    kept = {
        name: value
        for name, value in environ.items()
        if _KEPT.fullmatch(name) and not _MISLEADING.fullmatch(name)
    }
    caches = {
        "PIPENV_CACHE_DIR": environ.get("PIP_CACHE_DIR") or str(cache_dir / "pipenv"),
        "VIRTUALENV_OVERRIDE_APP_DATA": str(cache_dir / "virtualenv"),
        "UV_CACHE_DIR": str(cache_dir / "uv"),
    }
    return caches | kept


def options(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Variables that change the bytes of what is installed, sorted by name."""
    return tuple(sorted((name, value) for name, value in environ.items() if _OPTIONS.fullmatch(name)))


def without_indexes(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` as on a machine where pip knows no index but its default."""
    kept = {name: value for name, value in environ.items() if name not in _INDEXES}
    return kept | {"PIP_CONFIG_FILE": os.devnull}


def verify(python: str, project: Path) -> Command:
    """Does the lock in ``project`` match the Pipfile? ``python`` is the interpreter that has pipenv."""
    return _pipenv(python, project, "verify")


def lock(python: str, project: Path, *, mirror: str = "") -> Command:
    """Resolve the Pipfile in ``project`` for the interpreter of ``project/.venv``, and write its lock.

    ``--verbose``: else an index that does not answer looks like one that has no packages.

    ``mirror`` stands in for the default index where the Pipfile names it; its URL may hold a password.
    """
    env = {"PIPENV_PYPI_MIRROR": mirror} if mirror else {}
    return _pipenv(python, project, "lock", "--verbose", env=env)


def pipfile_hash(python: str, project: Path) -> Command:
    """Print by what pipenv knows whether a lock is that of the Pipfile in ``project``."""
    code = "from pipenv.project import Project; print(Project().pipfile.calculate_hash())"
    return Command((python, "-P", "-c", code), env=_variables(project), cwd=project)


def requirements(python: str, project: Path) -> Command:
    """Print what the lock in ``project`` says, without development packages and without indexes."""
    return _pipenv(python, project, "requirements", "--hash", "--exclude-index")


def compile_bytecode(venv_python: Path, site_packages: Path) -> Command:
    """Compile everything but tests on all CPUs, whether or not this machine writes bytecode elsewhere."""
    site = re.escape(str(site_packages))
    skipped = f"^{site}/(.*/)?tests?/|^{site}/pip/"
    argv = (str(venv_python), "-m", "compileall", "-qq", "-j", "0", "-x", skipped, str(site_packages))
    return Command(argv)


def pip_settings(python: str, pipenv_package: Path) -> Command:
    """List pip's settings as ``section.name='value'`` lines, with the pip that belongs to pipenv."""
    return Command((python, str(pipenv_package / "patched/pip/__pip-runner__.py"), "config", "list"))


def _pipenv(python: str, project: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Command:
    # -P: no module of the payload stands in for one of pipenv's.
    variables = _variables(project) | dict(env or {})
    return Command((python, "-P", "-m", "pipenv", *arguments), env=variables, cwd=project)


def _variables(project: Path) -> dict[str, str]:
    return _PIPENV | {"PIPENV_PIPFILE": str(project / "Pipfile")}
