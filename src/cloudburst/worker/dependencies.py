"""What a payload depends on: its Pipfile, and the lock that says exactly which versions."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cloudburst import archive
from cloudburst.archive.pipfile import local_packages, read_lock, read_pipfile
from cloudburst.commands import pipenv, uv
from cloudburst.commands.command import mask
from cloudburst.commands.requirements import normal
from cloudburst.commands.sources import Source, named, sources
from cloudburst.errors import BuildError, PayloadError
from cloudburst.worker import brought, diagnosis
from cloudburst.worker.access import installing, mirror
from cloudburst.worker.interpreters import Interpreter
from cloudburst.worker.tools import Tools, tail

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lock:
    """The contents of a Pipfile.lock."""

    text: str

    @classmethod
    def stored(cls, data: bytes) -> Lock:
        """One that was made for a payload and kept here or in the file store (PayloadError: damaged)."""
        return cls(read_lock(data)[0])

    @classmethod
    def kept(cls, path: Path) -> Lock | None:
        """The same from a file of this node; None when it is not there, or damaged."""
        try:
            return cls.stored(path.read_bytes())
        except FileNotFoundError:
            return None
        except PayloadError as error:
            log.warning("%s is damaged, making it again: %s", path, error)
            return None

    @property
    def packages(self) -> dict[str, Any]:
        """What is installed: everything but development packages."""
        packages: dict[str, Any] = json.loads(self.text).get("default", {})
        return packages

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The indexes that it was made with."""
        sources: list[dict[str, Any]] = json.loads(self.text).get("_meta", {}).get("sources", [])
        return sources

    def indexes(self) -> dict[str, str]:
        """Which of the sources a package is to come from, by its name, where the lock says so."""
        return {normal(name): entry["index"] for name, entry in self.packages.items() if "index" in entry}

    def identity(self, sources: Sequence[Mapping[str, Any]]) -> str:
        """Equal for locks that install the same from ``sources`` ([[source]] tables, without their logins).

        Hashes say what a package is, whichever of the sources offers it; without them its index does. All
        sources count: one that has no index comes from the first that offers it, and what a source archive
        is built with has no hashes.
        """
        urls = {source.get("name"): mask(str(source.get("url", ""))) for source in sources}
        bare = {}
        for name, entry in self.packages.items():
            bare[name] = {key: value for key, value in entry.items() if key != "index"}
            if "index" in entry and not entry.get("hashes"):
                bare[name]["index"] = urls.get(entry["index"], entry["index"])
        return json.dumps([[mask(str(source.get("url", ""))) for source in sources], bare], sort_keys=True)


@dataclass(frozen=True)
class Pipfile:
    """The Pipfile of a payload."""

    payload: Path
    text: str
    table: dict[str, Any]
    brings_packages: bool = False
    """Some of the packages are in the payload itself."""

    @classmethod
    def of(cls, payload: Path) -> Pipfile:
        """Read and check it (BuildError when it is missing, invalid, or names files that are not there)."""
        try:
            text, table = read_pipfile((payload / "Pipfile").read_bytes())
            found = local_packages(table, lambda name: (payload / name).is_file())
        except FileNotFoundError as error:
            raise BuildError("the payload has no Pipfile: make one with 'pipenv install ...'") from error
        except PayloadError as error:
            raise BuildError(f"{error} and submit again") from error
        return cls(payload, text, table, any(found.values()))

    @property
    def python(self) -> str:
        """The Python version that it requires; "" for any."""
        requires = self.table.get("requires", {})
        return str(requires.get("python_full_version") or requires.get("python_version") or "").strip("*.")

    def sources(self, lock: Lock, given: Mapping[str, str], mirror: str) -> list[Source]:
        """The indexes to install from, with logins filled in; empty: the one that everybody uses."""
        return sources(self.source_tables(lock), given, mirror)

    def source_tables(self, lock: Lock) -> list[dict[str, Any]]:
        """The [[source]] tables that count: the Pipfile's own, else those of the lock."""
        own = self.table.get("source") or lock.sources
        return own if isinstance(own, list) else [own]

    def check_variables(self, tools: Tools) -> None:
        """BuildError when it names a variable that builds are not given, whatever else has that name here."""
        wanted = named([self.table.get("source", []), self.table.get("packages", {})])
        missing = sorted(set(wanted) - set(tools.given))
        if missing:
            settings = " and ".join(f"CLOUDBURST_BUILD_{name}" for name in missing)
            variables = ", ".join(f"${{{name}}}" for name in missing)
            raise BuildError(
                f"the Pipfile names {variables}, which builds are not given: "
                f"set {settings} (or the same with _FILE behind it: the path of a file that holds the value) "
                f"where the worker is started, and start it again"
            )

    @cached_property
    def local_digest(self) -> str:
        """Empty unless packages are installed from the payload itself: then a digest of all its files."""
        if not self.brings_packages:
            return ""
        digest = hashlib.sha256()
        for path in sorted(self.payload.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(self.payload)).encode() + b"\0")
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def copy_to(self, project: Path) -> None:
        """Make ``project`` a folder in which pipenv can work; the payload itself stays as it is."""
        if self.brings_packages:
            shutil.copytree(self.payload, project, dirs_exist_ok=True)
            archive.unprotect(project)
        (project / "Pipfile").write_text(self.text, encoding="utf-8")


def own_lock(pipfile: Pipfile, locks_dir: Path, tools: Tools) -> Lock | None:
    """The lock that the payload brings; None when it brings none. BuildError when it does not match.

    That it matches is remembered in ``locks_dir``, so that asking again runs nothing.
    """
    own = pipfile.payload / "Pipfile.lock"
    if not own.exists():
        return None
    return _verified(pipfile, own.read_bytes(), locks_dir, tools)


def lock_key(pipfile: Pipfile, interpreter: Interpreter) -> str:
    """Equal for payloads that can use the same lock, should they bring none."""
    return _sha256(pipfile.text, pipfile.local_digest, interpreter.version, interpreter.platform)


def make_lock(
    pipfile: Pipfile, interpreter: Interpreter, into: Path, tools: Tools, held: int | None = None
) -> Lock:
    """Resolve the Pipfile with pipenv; ``into`` is a directory that is made for it, and removed.

    BuildError when it cannot be resolved.
    """
    shutil.rmtree(into, ignore_errors=True)  # of a build that was interrupted
    try:
        return _made(pipfile, interpreter, into, tools, held)
    finally:
        shutil.rmtree(into, ignore_errors=True)


def local_lock(pipfile: Pipfile, interpreter: Interpreter, locks_dir: Path, tools: Tools) -> Lock:
    """The payload's own lock, else one that is made once per Pipfile and kept in ``locks_dir``."""
    own = own_lock(pipfile, locks_dir, tools)
    if own is not None:
        return own
    path = locks_dir / f"{lock_key(pipfile, interpreter)}.lock"
    with tools.exclusively(path.with_suffix(".flock"), "this Pipfile.lock") as held:
        lock = Lock.kept(path)
        if lock is None:
            lock = make_lock(pipfile, interpreter, path.with_suffix(".draft"), tools, held)
            draft = path.with_suffix(".new")
            draft.write_text(lock.text, encoding="utf-8")
            draft.replace(path)
    return lock


def _verified(pipfile: Pipfile, data: bytes, locks_dir: Path, tools: Tools) -> Lock:
    try:
        text, table = read_lock(data)
        local = local_packages(table, lambda name: (pipfile.payload / name).is_file(), "Pipfile.lock")
        settled = brought.settled(table, pipfile.table)
    except PayloadError as error:
        raise BuildError(str(error)) from error
    lock = Lock(text if settled == table else _text(settled))
    if local.get("default") and not pipfile.brings_packages:
        raise BuildError(
            "Pipfile.lock does not match the Pipfile, which names no package of the payload itself: "
            "run 'pipenv lock' where they are and submit again"
        )
    locks_dir.mkdir(parents=True, exist_ok=True)
    marker = locks_dir / f"{_sha256(pipfile.text, text)}.verified"
    if marker.exists():
        return lock
    with tempfile.TemporaryDirectory(dir=locks_dir, prefix=".verify-") as name:
        project, output = Path(name), Path(name, "output")
        (project / "Pipfile").write_text(pipfile.text, encoding="utf-8")
        (project / "Pipfile.lock").write_text(text, encoding="utf-8")
        # Without [[source]] the hash in a lock depends on the index that pip was set to when it was made:
        # usually none, else perhaps the one of this machine.
        for environ in (pipenv.without_indexes(tools.environ), tools.environ):
            command = pipenv.verify(sys.executable, project)
            if replace(tools, environ=environ).run(command, output) == 0:
                marker.touch()
                return lock
        raise BuildError(
            "Pipfile.lock does not match the Pipfile: run 'pipenv lock' where they are and submit again",
            tail(output),
        )


def _made(pipfile: Pipfile, interpreter: Interpreter, draft: Path, tools: Tools, held: int | None) -> Lock:
    pipfile.check_variables(tools)
    tools.note("resolving the Pipfile with pipenv, as there is no Pipfile.lock")
    project, output = draft / "project", draft / "output"
    project.mkdir(parents=True)
    pipfile.copy_to(project)
    if plain := brought.for_pipenv(pipfile.table, project):
        (project / "Pipfile").write_text(plain, encoding="utf-8")
    ready = installing(tools, draft)
    # pipenv would make one with virtualenv, which takes longer and asks the default index for pip.
    venv = uv.venv(sys.executable, project / ".venv", interpreter.path)
    lock = pipenv.lock(sys.executable, project, mirror=mirror(ready.environ))
    if any(ready.run(command, output, held=held) != 0 for command in (venv, lock)):
        said = tail(output)
        if not diagnosis.unreached(said):
            said = _asked_again(pipfile, said, interpreter, ready, draft) or said
        why = diagnosis.explain(said, interpreter) or diagnosis.reason(said) or "pipenv lock failed"
        raise BuildError(f"the Pipfile cannot be resolved: {why}", said)
    made = json.loads((project / "Pipfile.lock").read_text(encoding="utf-8"))
    if plain:
        made["_meta"]["hash"]["sha256"] = _hash_of(pipfile, project, ready, draft)
    if "source" not in pipfile.table:
        _forget_index(made)
    try:
        return Lock(_text(brought.settled(made, pipfile.table, project)))
    except PayloadError as error:
        raise BuildError(f"the Pipfile cannot be resolved: {error}") from error


def _hash_of(pipfile: Pipfile, project: Path, tools: Tools, draft: Path) -> str:
    """By what pipenv will know that the lock is that of the payload's own Pipfile."""
    (project / "Pipfile").write_text(pipfile.text, encoding="utf-8")
    answer, output = draft / "hash.txt", draft / "hash.log"
    if tools.run(pipenv.pipfile_hash(sys.executable, project), output, stdout=answer) != 0:
        raise BuildError("pipenv does not understand the Pipfile", tail(output))
    return answer.read_text(encoding="utf-8").strip()


def _asked_again(pipfile: Pipfile, said: str, interpreter: Interpreter, tools: Tools, draft: Path) -> str:
    """What uv says of a package that pipenv has not found; "" if nothing new.

    To pipenv an index that lets nobody in is one that has no packages.
    """
    missing = re.search(r"No matching distribution found for (\S+)", said)
    if not missing:
        return ""
    question, output = draft / "question.txt", draft / "question.log"
    question.write_text(f"{missing[1]}\n", encoding="utf-8")
    chosen = pipfile.sources(Lock("{}"), tools.given, mirror(tools.environ))
    command = uv.ask(sys.executable, interpreter.path, question, sources=chosen, environ=tools.environ)
    tools.run(command, output)
    answer = tail(output)
    return f"{said}\n{answer}" if diagnosis.unreached(answer) else ""


def _forget_index(lock: dict[str, Any]) -> None:
    """Undo that pipenv writes this machine's index into a lock whose Pipfile names none."""
    lock["_meta"]["sources"] = []
    for entry in lock["default"].values():
        entry.pop("index", None)


def _text(lock: dict[str, Any]) -> str:
    return json.dumps(lock, indent=4, sort_keys=True) + "\n"


def _sha256(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
