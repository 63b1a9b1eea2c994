"""Environments: the installed dependencies of payloads, each built once per node and used by all its jobs."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cloudburst.commands import pipenv
from cloudburst.errors import BuildError
from cloudburst.worker import interpreters
from cloudburst.worker.dependencies import Lock, Pipfile, lock_of
from cloudburst.worker.interpreters import Interpreter
from cloudburst.worker.tools import BuildStopped, Tools, installing, reason, tail

__all__ = ["BuildStopped", "Environment", "build", "digest"]

log = logging.getLogger(__name__)

_LAYOUT = "1"
"""Changes when environments of this version of CloudBurst cannot be used by another."""

_COMPLETE = "complete.json"


@dataclass(frozen=True)
class Environment:
    """An environment that is complete."""

    digest: str
    directory: Path
    """Holds the virtual environment, and the Pipfile and Pipfile.lock it was made from."""
    python_version: str
    platform: str
    built_s: float
    """How long building it took, whenever that was."""

    @property
    def python(self) -> Path:
        """The interpreter that sees the packages."""
        return self.directory / ".venv" / "bin" / "python"


def digest(lock: Lock, interpreter: Interpreter, local: str = "") -> str:
    """Name of the environment: what is locked, the Python version and the platform.

    ``local`` stands for packages that are installed from the payload itself.
    """
    parts = [_LAYOUT, lock.identity(), interpreter.version, interpreter.platform, local]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def build(
    payload_dir: Path,
    environments_dir: Path,
    *,
    environ: Mapping[str, str],
    note: Callable[[str], None] = lambda text: None,
    stop: threading.Event | None = None,
) -> Environment:
    """The environment of a payload, built with pipenv unless this node has it already.

    ``note`` gets short lines about what takes time. Raises BuildError when the payload's dependencies
    cannot be installed, and BuildStopped after ``stop`` was set; neither leaves anything half-built.
    """
    environments_dir = environments_dir.absolute()
    pipfile = Pipfile.of(payload_dir)
    interpreter = interpreters.find(pipfile.python, environ)
    tools = Tools(
        pipenv.environ_for_tools(environ, environments_dir / "cache"), note, stop or threading.Event()
    )
    lock = lock_of(pipfile, interpreter, environments_dir / "locks", tools)
    name = digest(lock, interpreter, pipfile.local_digest)
    directory = environments_dir / name
    ready = _complete(directory)
    if ready is not None:
        return ready
    with tools.exclusively(environments_dir / f"{name}.flock", "this environment") as held:
        return _complete(directory) or _build(directory, pipfile, lock, interpreter, tools, held=held)


def _complete(directory: Path) -> Environment | None:
    """None as well when the interpreter that it was made from has gone."""
    try:
        record = json.loads((directory / _COMPLETE).read_text(encoding="utf-8"))
        found = Environment(
            directory.name, directory, record["python_version"], record["platform"], record["built_s"]
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError):
        log.warning("%s is damaged: building the environment again", directory / _COMPLETE)
        return None
    return found if found.python.exists() else None


def _build(
    directory: Path, pipfile: Pipfile, lock: Lock, interpreter: Interpreter, tools: Tools, *, held: int
) -> Environment:
    started = time.monotonic()
    if directory.exists():
        log.info("removing what an interrupted build left in %s", directory)
        shutil.rmtree(directory)
    scratch = directory / ".scratch"
    scratch.mkdir(parents=True)
    try:
        pipfile.copy_to(directory)
        (directory / "Pipfile.lock").write_text(lock.text, encoding="utf-8")
        _install(directory, lock, interpreter, installing(tools, scratch), held)
        shutil.rmtree(scratch)
        built = Environment(
            directory.name, directory, interpreter.version, interpreter.platform, time.monotonic() - started
        )
        _mark(built, lock, interpreter)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    log.info("environment %.12s built in %.1f s", built.digest, built.built_s)
    return built


def _install(directory: Path, lock: Lock, interpreter: Interpreter, tools: Tools, held: int) -> None:
    output = directory.with_suffix(".log")  # beside it, so that it can still be read after a failure
    output.unlink(missing_ok=True)
    count = len(lock.packages)
    tools.note(f"installing {count} package{'' if count == 1 else 's'} with pipenv")
    if tools.run(pipenv.sync(sys.executable, directory, interpreter.path), output, held=held) != 0:
        said = tail(output)
        raise BuildError(
            f"the packages of the Pipfile.lock cannot be installed: {reason(said) or 'pipenv sync failed'}",
            said,
        )
    tools.note("compiling the installed packages")
    site_packages = next((directory / ".venv" / "lib").glob("python*")) / "site-packages"
    python = directory / ".venv" / "bin" / "python"
    if tools.run(pipenv.compile_bytecode(python, site_packages), output, held=held) != 0:
        # Packages ship files that are not Python of this version: they are never imported.
        log.debug("some files of %s were not compiled", site_packages)


def _mark(built: Environment, lock: Lock, interpreter: Interpreter) -> None:
    record = {
        "python_version": built.python_version,
        "platform": interpreter.platform,
        "built_s": round(built.built_s, 1),
        "packages": {name: entry.get("version", "") for name, entry in lock.packages.items()},
    }
    draft = built.directory / f"{_COMPLETE}.draft"
    draft.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    draft.replace(built.directory / _COMPLETE)
