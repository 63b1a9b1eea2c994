"""What must be right before a payload can run, found out without importing any of it."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cloudburst.archive.listing import Member
from cloudburst.archive.pipfile import Table, local_packages, read_lock, read_pipfile
from cloudburst.errors import PayloadError

_SHOWN = 5


def run(directory: Path, members: Sequence[Member], function: str | None) -> None:
    """PayloadError when the payload in ``directory`` cannot run, or has no such function."""
    by_name = {member.name: member for member in members}
    pipfile = _pipfile(directory, by_name)
    _refuse_own_names(by_name)
    modules = {name: member for name, member in by_name.items() if name.endswith(".py")}
    if not modules:
        raise PayloadError(f"{directory}: no Python module (a file such as worker.py with your function)")
    if not _needs_newer_python(pipfile):
        _check_syntax(modules)
        if function is not None:
            _check_function(function, modules)


def _pipfile(directory: Path, by_name: dict[str, Member]) -> Table:
    if "Pipfile" not in by_name:
        raise PayloadError(
            f"{directory}: no Pipfile, so nobody knows what to install: make one with 'pipenv install ...', "
            f"or an empty file if your code needs nothing"
        )
    _, pipfile = read_pipfile(by_name["Pipfile"].path.read_bytes())
    local_packages(pipfile, by_name.__contains__)
    if lock := by_name.get("Pipfile.lock"):
        _, locked = read_lock(lock.path.read_bytes())
        local_packages(locked, by_name.__contains__, "Pipfile.lock")
    return pipfile


def _refuse_own_names(names: Iterable[str]) -> None:
    """A module that hides CloudBurst's own would have ``from cloudburst import results`` fail in each job."""
    for name in names:
        if name == "cloudburst.py" or name.startswith("cloudburst/"):
            raise PayloadError(f"{name}: hides CloudBurst's own module from your code: rename it")


def _needs_newer_python(pipfile: Table) -> bool:
    """Whether the payload asks for a Python whose syntax this one cannot judge."""
    requires = pipfile.get("requires", {})
    wanted = str(requires.get("python_full_version") or requires.get("python_version") or "")
    parts = wanted.split(".")[:2]
    if not all(part.isdigit() for part in parts):
        return False
    return tuple(int(part) for part in parts) > sys.version_info[: len(parts)]


def _check_syntax(modules: dict[str, Member]) -> None:
    faults = [fault for name, member in modules.items() if (fault := _syntax_error(name, member))]
    if faults:
        more = f"\nand {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise PayloadError("syntax errors in the payload:\n" + "\n".join(faults[:_SHOWN]) + more)


def _syntax_error(name: str, member: Member) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(member.path.read_bytes(), name, "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"{name}:{error.lineno or 1}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; nested too deeply
        return f"{name}:1: {error or 'nested too deep'}"
    return None


def _check_function(function: str, modules: dict[str, Member]) -> None:
    """Look for ``package.module.function`` or ``module.Class.method``, as far as top-level names go."""
    parts = function.split(".")
    if len(parts) == 1 or not all(part.isidentifier() for part in parts):
        raise PayloadError(f"function {function!r}: give module and function, such as worker.work")
    if parts[0] == "__main__":
        raise PayloadError(
            f"function {function!r}: __main__ is the program that runs jobs, and none of yours: rename the "
            f"module"
        )
    for length in range(len(parts) - 1, 0, -1):
        path = "/".join(parts[:length])
        name = next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in modules), None)
        if name is not None:
            _check_defined(function, parts[length], name, modules[name])
            return
    have = ", ".join(list(modules)[:_SHOWN])
    raise PayloadError(
        f"function {function!r}: the payload has no module {'.'.join(parts[:-1])} (it has {have})"
    )


def _check_defined(function: str, attribute: str, name: str, member: Member) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            defined = set(_top_level_names(ast.parse(member.path.read_bytes()).body))
        except RecursionError:  # an expression of a thousand parts; the module itself will tell
            return
    if defined & {attribute, "*", "__getattr__"}:
        return
    have = ", ".join(sorted(defined)[: 2 * _SHOWN]) or "nothing"
    raise PayloadError(f"function {function!r}: {name} does not define {attribute} (it defines {have})")


def _top_level_names(body: Sequence[ast.AST]) -> Iterator[str]:
    """Names that these statements bind in their module; ``*`` for what cannot be known without importing."""
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Lambda():
                pass
            case _:
                yield from _top_level_names(list(ast.iter_child_nodes(node)))
