"""The Pythons of this machine: each is asked, since a name on PATH promises nothing."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cloudburst.commands import images
from cloudburst.errors import BuildError

log = logging.getLogger(__name__)

_NAME = re.compile(r"python3(\.\d+)?")
_ANSWER_S = 20.0

_QUESTION = """
import json, os, platform, sys, sysconfig
base = getattr(sys, "_base_executable", None) or sys.executable
tag = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag
parts = [sysconfig.get_platform(), tag, "".join(platform.libc_ver())]
print(json.dumps([os.path.realpath(base), platform.python_version(), "-".join(filter(None, parts))]))
"""


@dataclass(frozen=True)
class Interpreter:
    """One Python that runs here; never that of a virtual environment, which may be removed any time."""

    path: Path
    version: str
    """Such as ``3.11.7``."""
    platform: str
    """System, architecture, ABI and C library: compiled packages are for exactly one."""

    def is_version(self, wanted: str) -> bool:
        """Whether ``3.11.7`` is what is meant by ``3``, ``3.11`` or ``3.11.7``."""
        return f"{self.version}.".startswith(f"{wanted}.")


def find(wanted: str, environ: Mapping[str, str]) -> Interpreter:
    """CloudBurst's own Python if its version is ``wanted`` ("": any), else the newest that is on PATH.

    Raises BuildError, with the versions that there are.
    """
    own = _ask(Path(sys.executable), environ)
    if own is None:
        raise BuildError(f"{sys.executable} does not answer: is CloudBurst's installation damaged?")
    if not wanted or own.is_version(wanted):
        return own
    found = {own, *installed(environ)}
    matching = [interpreter for interpreter in found if interpreter.is_version(wanted)]
    if matching:
        return max(matching, key=lambda interpreter: _numbers(interpreter.version))
    versions = sorted({interpreter.version for interpreter in found}, key=_numbers)
    raise BuildError(
        f"the Pipfile requires Python {wanted}, which is not on this node (found: {', '.join(versions)}): "
        f"install it there ({images.worker(PYTHONS=wanted)} makes an image that has it), "
        f"or change [requires] in the Pipfile"
    )


def installed(environ: Mapping[str, str]) -> Iterator[Interpreter]:
    """Every Python 3 on PATH that runs, once."""
    seen: set[Path] = set()
    for candidate in _on_path(environ):
        interpreter = _ask(candidate, environ)
        if interpreter is not None and interpreter.path not in seen:
            seen.add(interpreter.path)
            yield interpreter


def _on_path(environ: Mapping[str, str]) -> Iterator[Path]:
    seen: set[Path] = set()
    for folder in os.get_exec_path(dict(environ)):
        if not os.path.isdir(folder):
            continue
        for name in sorted(os.listdir(folder)):
            path = Path(folder, name)
            if _NAME.fullmatch(name) and os.access(path, os.X_OK) and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _ask(python: Path, environ: Mapping[str, str]) -> Interpreter | None:
    """None for a file that only looks like a Python, such as the shim of a version that is not chosen."""
    argv = [str(python), "-I", "-S", "-c", _QUESTION]
    try:
        answer = subprocess.run(
            argv,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_ANSWER_S,
            check=True,
            env=dict(environ),
        )
        path, version, platform = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        log.debug("%s is not a Python that runs: %s", python, error)
        return None
    return Interpreter(Path(path), version, platform)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
