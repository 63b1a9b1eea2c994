"""Environments: the installed dependencies of payloads, at one path per digest, complete or not there."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cloudburst.errors import BuildError
from cloudburst.worker import dependencies, interpreters
from cloudburst.worker.dependencies import Lock, Pipfile
from cloudburst.worker.installation import Installation
from cloudburst.worker.interpreters import Interpreter
from cloudburst.worker.tools import BuildStopped, Tools

__all__ = ["BuildStopped", "Environment", "Recipe", "adopt", "build", "complete", "of_payload"]

log = logging.getLogger(__name__)

_LAYOUT = "2"
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
    """How long building it took, wherever and whenever that was."""

    @property
    def python(self) -> Path:
        """The interpreter that sees the packages."""
        return self.directory / ".venv" / "bin" / "python"


@dataclass(frozen=True)
class Recipe:
    """What an environment is made from."""

    pipfile: Pipfile
    lock: Lock
    interpreter: Interpreter
    options: tuple[tuple[str, str], ...] = ()
    """Variables of the build that change what is installed, such as CFLAGS."""

    @property
    def digest(self) -> str:
        """Name of the environment: everything that changes its bytes."""
        identity = self.lock.identity(self.pipfile.source_tables(self.lock))
        parts = [
            *(_LAYOUT, identity, self.interpreter.version, self.interpreter.platform),
            *(self.pipfile.local_digest, json.dumps(self.options)),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def of_payload(
    payload_dir: Path,
    environments_dir: Path,
    *,
    environ: Mapping[str, str],
    note: Callable[[str], None] = lambda text: None,
    stop: threading.Event | None = None,
) -> Environment:
    """The environment of a payload, made on this machine alone unless it is there already.

    ``note`` gets short lines about what takes time. Raises BuildError when the payload's dependencies
    cannot be installed, and BuildStopped after ``stop`` was set; neither leaves anything half-built.
    """
    pipfile = Pipfile.of(payload_dir)
    interpreter = interpreters.find(pipfile.python, environ)
    tools = Tools.of(environ, environments_dir, note, stop)
    lock = dependencies.local_lock(pipfile, interpreter, environments_dir / "locks", tools)
    recipe = Recipe(pipfile, lock, interpreter, tools.options)
    return complete(environments_dir, recipe.digest, interpreter) or build(recipe, environments_dir, tools)


def complete(environments_dir: Path, digest: str, interpreter: Interpreter) -> Environment | None:
    """The environment of that digest if it is on this node, and can be used; nothing is run for that."""
    directory = environments_dir.absolute() / digest
    try:
        record = json.loads((directory / _COMPLETE).read_text(encoding="utf-8"))
        found = Environment(
            digest, directory, record["python_version"], record["platform"], record["built_s"]
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        log.warning("%s is damaged: making the environment again", directory / _COMPLETE)
        return None
    if not found.python.exists():  # the interpreter it was made from has gone; another may have its version
        _link(directory / ".venv", interpreter)
    return found


def build(recipe: Recipe, environments_dir: Path, tools: Tools) -> Environment:
    """Install what the recipe says; processes and threads that want the same wait for one of them.

    Raises BuildError and BuildStopped as ``of_payload`` does.
    """
    digest = recipe.digest
    with tools.exclusively(_flock(environments_dir, digest), "this environment") as held:
        return complete(environments_dir, digest, recipe.interpreter) or _build(
            environments_dir.absolute() / digest, recipe, tools, held=held
        )


def adopt(unpacked: Path, recipe: Recipe, environments_dir: Path, tools: Tools) -> Environment:
    """Move an environment that was built elsewhere and unpacked here to its place, ready to be used.

    ``unpacked`` is a directory with the contents of another node's ``Environment.directory``, on the same
    file system as ``environments_dir``. Links out of it (the interpreter's) may be missing. BuildError when
    it is not what the recipe is for.
    """
    digest = recipe.digest
    place = environments_dir.absolute() / digest
    with tools.exclusively(_flock(environments_dir, digest), "this environment"):
        found = complete(environments_dir, digest, recipe.interpreter)
        if found is not None:
            shutil.rmtree(unpacked)
            return found
        if not (unpacked / _COMPLETE).exists() or not (unpacked / ".venv" / "pyvenv.cfg").exists():
            raise BuildError(f"{unpacked} is not an environment: remove {digest} from the file store")
        _link(unpacked / ".venv", recipe.interpreter)
        if place.exists():
            log.info("removing what an interrupted build left in %s", place)
            shutil.rmtree(place)
        unpacked.rename(place)
        adopted = complete(environments_dir, digest, recipe.interpreter)
    if adopted is None:
        raise BuildError(f"the environment that was unpacked to {place} is damaged: submit again")
    return adopted


def _flock(environments_dir: Path, digest: str) -> Path:
    return environments_dir.absolute() / f"{digest}.flock"


def _link(venv: Path, interpreter: Interpreter) -> None:
    """Let ``venv`` belong to that interpreter of this node."""
    configuration = venv / "pyvenv.cfg"
    lines = configuration.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("=")[0].strip() not in {"home", "executable", "command"}]
    configuration.write_text("\n".join([f"home = {interpreter.path.parent}", *kept]) + "\n", encoding="utf-8")
    draft = venv / "bin" / ".python"
    draft.unlink(missing_ok=True)
    draft.symlink_to(interpreter.path)
    draft.replace(venv / "bin" / "python")


def _build(directory: Path, recipe: Recipe, tools: Tools, *, held: int) -> Environment:
    started = time.monotonic()
    if directory.exists():
        log.info("removing what an interrupted build left in %s", directory)
        shutil.rmtree(directory)
    scratch = directory / ".scratch"
    scratch.mkdir(parents=True)
    try:
        (directory / "Pipfile").write_text(recipe.pipfile.text, encoding="utf-8")
        (directory / "Pipfile.lock").write_text(recipe.lock.text, encoding="utf-8")
        output = directory.with_suffix(".log")  # beside it, so that it can still be read after a failure
        output.unlink(missing_ok=True)
        installation = Installation(
            recipe.pipfile,
            recipe.lock,
            recipe.interpreter,
            venv=directory / ".venv",
            scratch=scratch,
            output=output,
            tools=tools,
            held=held,
        )
        installation.run()
        shutil.rmtree(scratch)
        version, platform = recipe.interpreter.version, recipe.interpreter.platform
        took_s = round(time.monotonic() - started, 1)
        built = Environment(directory.name, directory, version, platform, took_s)
        _mark(built, recipe.lock)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    log.info("environment %.12s built in %.1f s", built.digest, built.built_s)
    return built


def _mark(built: Environment, lock: Lock) -> None:
    record = {
        "python_version": built.python_version,
        "platform": built.platform,
        "built_s": built.built_s,
        "packages": {name: entry.get("version", "") for name, entry in lock.packages.items()},
    }
    draft = built.directory / f"{_COMPLETE}.draft"
    draft.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    draft.replace(built.directory / _COMPLETE)
