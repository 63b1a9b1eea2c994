"""Command lines of uv, which installs what pipenv has locked, and what pip's variables are called there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cloudburst.commands.command import Command
from cloudburst.commands.sources import Source

_ALWAYS = {
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_NO_SOURCES": "1",  # where a package's own developers have its dependencies from
}
_QUIET = {"UV_NO_PROGRESS": "1", "UV_NO_COLOR": "1", "NO_COLOR": "1", "TERM": "dumb"}

_SAME = {
    "PIP_TIMEOUT": "UV_HTTP_TIMEOUT",
    "PIP_RETRIES": "UV_HTTP_RETRIES",
    "PIP_CLIENT_CERT": "SSL_CLIENT_CERT",
    "PIP_KEYRING_PROVIDER": "UV_KEYRING_PROVIDER",
    "PIP_BUILD_CONSTRAINT": "UV_BUILD_CONSTRAINT",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
}
"""Variables of pip that uv has under another name, with the same meaning and form."""


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` with what it says to pip said to uv as well; what it says to uv itself wins."""
    said = {ours: environ[theirs] for theirs, ours in _SAME.items() if environ.get(theirs)}
    if environ.get("PIP_FIND_LINKS"):
        said["UV_FIND_LINKS"] = ",".join(environ["PIP_FIND_LINKS"].split())
    if environ.get("UV_INDEX_URL"):
        said["UV_DEFAULT_INDEX"] = environ["UV_INDEX_URL"]
    if environ.get("UV_EXTRA_INDEX_URL"):
        said["UV_INDEX"] = environ["UV_EXTRA_INDEX_URL"]
    old_names = {"UV_INDEX_URL", "UV_EXTRA_INDEX_URL"}
    return said | {name: value for name, value in environ.items() if name not in old_names}


def venv(python: str, directory: Path, interpreter: Path) -> Command:
    """Make an empty virtual environment that may be moved; ``python`` is the interpreter that has uv."""
    return _uv(python, "venv", "--relocatable", "--no-project", "--python", str(interpreter), str(directory))


def install(
    python: str,
    venv_python: Path,
    requirements: Path,
    *,
    hashes: bool,
    sources: Sequence[Source],
    environ: Mapping[str, str],
) -> Command:
    """Install exactly the lines of that file, and nothing they need.

    ``sources``: the indexes to ask, in place of the default of ``environ`` (as made by ``variables``); empty
    for that default. With hashes any of the indexes may offer a package, those of ``environ`` too; without,
    the first of the sources alone is asked, since nothing else tells whose package it is.
    """
    env = _indexes(sources, environ, all_of_them=hashes)
    several = bool({**environ, **env}.get("UV_INDEX"))
    # Of several indexes, uv treats one that lets nobody in as if it had no packages; of one, it says so.
    strategy = "unsafe-best-match" if hashes and several else "first-index"
    command = [
        *("pip", "install", "--no-deps", "--python", str(venv_python), "--index-strategy", strategy),
        *_building(environ),
        *(["--require-hashes"] if hashes else []),
        *("--requirements", str(requirements)),
    ]
    return _uv(python, *command, env=env)


def ask(
    python: str,
    interpreter: Path,
    requirements: Path,
    *,
    sources: Sequence[Source],
    environ: Mapping[str, str],
) -> Command:
    """Look for what stands in that file, and install nothing; arguments as for ``install``."""
    command = ("pip", "compile", "--no-deps", "--quiet", "--python", str(interpreter), str(requirements))
    return _uv(python, *command, env=_indexes(sources, environ, all_of_them=True))


def _indexes(sources: Sequence[Source], environ: Mapping[str, str], *, all_of_them: bool) -> dict[str, str]:
    if not sources:
        return {}
    chosen = sources if all_of_them else sources[:1]
    extra = [source.url for source in chosen[1:]]
    if all_of_them:
        extra += environ.get("UV_INDEX", "").split()
    insecure = [*environ.get("UV_INSECURE_HOST", "").split(), *(s.host for s in chosen if not s.verify_ssl)]
    return {
        # URLs hold passwords: never in argv.
        "UV_DEFAULT_INDEX": chosen[0].url,
        "UV_INDEX": " ".join(extra),
        "UV_INSECURE_HOST": " ".join(insecure),
    }


def _building(environ: Mapping[str, str]) -> Iterator[str]:
    """Flags for what pip is told by variables, and uv by none."""
    if environ.get("PIP_NO_INDEX", "0").lower() not in {"", "0", "false", "no", "off"}:
        yield "--no-index"
    for variable in ("PIP_NO_BINARY", "PIP_ONLY_BINARY"):
        for name in environ.get(variable, "").replace(",", " ").split():
            yield f"--{variable[4:].lower().replace('_', '-')}={name}"


def _uv(python: str, *arguments: str, env: Mapping[str, str] | None = None) -> Command:
    return Command((python, "-P", "-m", "uv", *arguments), env=_ALWAYS | _QUIET | dict(env or {}))
