#!/usr/bin/env python3
"""Write docs/api.md: the Python API, from its docstrings. `make docs` runs this; a test compares."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from cloudburst import Ensemble, Results, Stack, errors, follow, model
from cloudburst.ensemble.collecting import Collecting
from cloudburst.filestore.client import FileStore, StoredFile
from cloudburst.points import line
from cloudburst.rqwire.ending import Announcement
from cloudburst.rqwire.jobs import KnownJob

HEAD = """# Python API

```python
from cloudburst import Stack, follow
```

What is not imported from `cloudburst` is what a method returns. Names that are not on this page may change
without notice. Made by `make docs` from the docstrings; do not edit.
"""

CLASSES = (Stack, Ensemble, Results)
RETURNED = (Collecting, FileStore)
RECORDS = (
    *(model.EnsembleStatus, model.JobRecord, model.FailureGroup, model.EnsembleSpec, model.Provenance),
    *(model.WorkerStatus, model.NodeReading, model.PointsWaiting, KnownJob, StoredFile, Announcement),
    *(model.Audit, model.Account, model.QueueAccount, model.Breach, model.Repair, model.Endpoints),
)
WIDTH = 100

STATES = ("JobState", "EnsembleState")


def api() -> str:
    """All of docs/api.md."""
    parts = [HEAD, *_section("Classes", "From `cloudburst`.", map(_class, CLASSES))]
    parts += [f"## follow\n\nFrom `cloudburst`.\n\n{_call('follow', follow)}"]
    parts += _section("What methods return", "", [*map(_class, RETURNED), *map(_record, RECORDS)])
    parts += _section("States", "", map(_state, STATES))
    parts += _section("Errors", "From `cloudburst.errors`.", [_errors()])
    parts += _section("Inside a job", "From `cloudburst.results`.", [_call("write", line.write, "###")])
    return "\n".join(parts).rstrip("\n") + "\n"


def _section(title: str, said: str, parts: Any) -> list[str]:
    return [f"## {title}\n", *([f"{said}\n"] if said else []), *parts]


def _class(cls: type) -> str:
    lines = [f"### {cls.__name__}\n\n{_text(cls)}"]
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            returns = inspect.signature(member.fget).return_annotation
            lines.append(f"#### {cls.__name__}.{name}: {returns}\n\n{_text(member)}")
        elif callable(member) or isinstance(member, classmethod):
            lines.append(_call(f"{cls.__name__}.{name}", getattr(cls, name), "####"))
    return "\n".join(lines)


def _call(name: str, function: Any, level: str = "") -> str:
    signature = inspect.signature(function)
    shown = [one for one in signature.parameters.values() if one.name != "self"]
    parts = [_parameter(one) for one in shown]
    by_name = next((at for at, one in enumerate(shown) if one.kind is one.KEYWORD_ONLY), None)
    if by_name is not None:
        parts.insert(by_name, "*")
    returns = signature.return_annotation
    arrow = "" if returns in {inspect.Signature.empty, "None"} else f" -> {returns}"
    code = f"{name}({', '.join(parts)}){arrow}"
    if len(code) > WIDTH:
        code = "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){arrow}"])
    head = f"{level} {name}\n\n" if level else ""
    return f"{head}```text\n{code}\n```\n\n{_text(function, frozenset(signature.parameters))}"


def _parameter(one: inspect.Parameter) -> str:
    default = "" if one.default is one.empty else f" = {one.default!r}"
    return f"{one.name}: {one.annotation}{default}"


def _record(cls: type) -> str:
    said = dict(_said_of_fields(cls))
    rows = [
        f"| `{one.name}` | `{_type(one.type)}` | {said.get(one.name, '')} |"
        for one in dataclasses.fields(cls)
    ]
    for name, member in vars(cls).items():
        if isinstance(member, property) and not name.startswith("_"):
            returns = inspect.signature(member.fget).return_annotation
            rows.append(f"| `{name}` | `{_type(returns)}` | {_row(inspect.getdoc(member) or '')} |")
    table = "\n".join(["| field | type | |", "|---|---|---|", *rows])
    return f"### {cls.__name__}\n\n{_text(cls)}\n{table}\n"


def _state(name: str) -> str:
    values = ", ".join(f"`{value}`" for value in get_args(getattr(model, name)))
    said = dict(_documented(ast.parse(inspect.getsource(model)).body))
    return f"### {name}\n\n{values}. {_row(said[name])}\n"


def _errors() -> str:
    lines = ["| error | exit code | |", "|---|---|---|"]
    for cls in vars(errors).values():
        if inspect.isclass(cls):
            above = "" if cls is errors.CloudburstError else f"A kind of `{cls.__base__.__name__}`. "
            lines.append(f"| `{cls.__name__}` | {cls.exit_code} | {above}{_row(inspect.getdoc(cls) or '')} |")
    return "\n".join(lines) + "\n"


def _said_of_fields(cls: type) -> Iterator[tuple[str, str]]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    for name, said in _documented(definition.body):  # type: ignore[attr-defined]
        yield name, _row(said)


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Names that are assigned or annotated, with the text that stands behind them."""
    for statement, after in itertools.pairwise(body):
        match statement, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                yield name, inspect.cleandoc(said)
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(said))):
                yield name, inspect.cleandoc(said)


def _type(annotation: Any) -> str:
    return str(annotation).replace("|", "\\|")


def _row(text: str) -> str:
    return " ".join(_markdown(text).split()).replace("|", "\\|")


def _text(thing: Any, parameters: frozenset[str] = frozenset()) -> str:
    """A docstring as Markdown; what it says of parameters as a list."""
    lines: list[str] = []
    for one in (inspect.getdoc(thing) or "").splitlines():
        name, colon, rest = one.partition(": ")
        if colon and name in parameters:
            if lines and lines[-1] and not lines[-1].startswith(("- ", "  ")):
                lines.append("")
            lines.append(f"- `{name}`: {rest}")
        else:
            lines.append(
                f"  {one.strip()}" if one.startswith("    ") and lines[-1].startswith(("- ", "  ")) else one
            )
    return _markdown("\n".join(lines)) + "\n"


def _markdown(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(api(), encoding="utf-8")
