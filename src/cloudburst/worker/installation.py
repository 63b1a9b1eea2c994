"""Filling an environment: pipenv says what is in the lock, uv installs it, CPython compiles it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudburst.commands import pipenv, uv
from cloudburst.commands.command import Command, mask
from cloudburst.commands.requirements import Group, groups
from cloudburst.commands.sources import Source
from cloudburst.errors import BuildError
from cloudburst.worker import brought, diagnosis
from cloudburst.worker.access import installing, mirror
from cloudburst.worker.dependencies import Lock, Pipfile
from cloudburst.worker.interpreters import Interpreter
from cloudburst.worker.tools import Tools, tail

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Installation:
    """One virtual environment to be made and filled."""

    pipfile: Pipfile
    lock: Lock
    interpreter: Interpreter
    venv: Path
    scratch: Path
    """Temporary files; removed by the caller."""
    output: Path
    """What the tools say is appended here, without secrets."""
    tools: Tools
    held: int
    """Descriptor of a lock that lasts as long as the tools."""

    def run(self) -> None:
        """Make it; BuildError says what could not be installed."""
        self.pipfile.check_variables(self.tools)
        count = len(self.lock.packages)
        self.tools.note(f"installing {count} package{'' if count == 1 else 's'}")
        tools = installing(self.tools, self.scratch)
        self._do(tools, uv.venv(sys.executable, self.venv, self.interpreter.path))
        sources = self.pipfile.sources(self.lock, self.tools.given, mirror(tools.environ))
        for number, group in enumerate(self._groups(tools, sources)):
            self._do(tools, self._install(tools, group, self.scratch / f"requirements-{number}.txt"))
        self._forget_logins()
        self._compile(tools)

    def _groups(self, tools: Tools, sources: Sequence[Source]) -> list[Group]:
        project = self.scratch / "project"
        project.mkdir()
        self.pipfile.copy_to(project)
        lock = json.loads(self.lock.text)
        (project / "Pipfile.lock").write_text(json.dumps(brought.without(lock)), encoding="utf-8")
        listed = self.scratch / "requirements.txt"
        if tools.run(pipenv.requirements(sys.executable, project), self.output, stdout=listed) != 0:
            raise BuildError(
                "pipenv cannot say what is in the Pipfile.lock: make it again with 'pipenv lock'",
                tail(self.output),
            )
        found = groups(listed.read_text(encoding="utf-8"), self.lock.indexes(), sources)
        own = tuple(brought.lines(self.lock.packages, project))
        return [*found, Group(own, hashes=False, sources=tuple(sources))] if own else found

    def _install(self, tools: Tools, group: Group, requirements: Path) -> Command:
        requirements.write_text("\n".join(group.lines) + "\n", encoding="utf-8")
        return uv.install(
            sys.executable,
            self.venv / "bin" / "python",
            requirements,
            hashes=group.hashes,
            sources=group.sources,
            environ=tools.environ,
        )

    def _do(self, tools: Tools, command: Command) -> None:
        if tools.run(command, self.output, held=self.held) != 0:
            said = tail(self.output)
            why = diagnosis.explain(said, self.interpreter) or diagnosis.reason(said) or "uv failed"
            raise BuildError(f"the packages of the Pipfile.lock cannot be installed: {why}", said)

    @property
    def _site_packages(self) -> Path:
        return next((self.venv / "lib").glob("python*")) / "site-packages"

    def _forget_logins(self) -> None:
        """Where a package came from is noted beside it (PEP 610), with the password if there was one."""
        for note in self._site_packages.glob("*.dist-info/direct_url.json"):
            text = note.read_text(encoding="utf-8", errors="surrogateescape")
            note.unlink()  # it may be a link into the cache
            masked = mask(text, self.tools.secrets)
            note.write_text(masked, encoding="utf-8", errors="surrogateescape")

    def _compile(self, tools: Tools) -> None:
        tools.note("compiling the installed packages")
        python = self.venv / "bin" / "python"
        command = pipenv.compile_bytecode(python, self._site_packages)
        if tools.run(command, self.output, held=self.held) != 0:
            # Packages ship files that are not Python of this version: they are never imported.
            log.debug("some files of %s were not compiled", self._site_packages)
